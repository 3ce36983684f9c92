// Command imago-agent is uploaded into guests and driven by imago over an SSH
// channel, one process per call; package inguest is what it does. In its mode
// transfer it stands beside the new database and applies what flows from
// production (package apply, through package link). Build it with
//
//	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' ./cmd/imago-agent
//
// so that it runs in any guest of that architecture.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"imago.dev/imago/guestagent/inguest"
	"imago.dev/imago/guestagent/wire"
	"imago.dev/imago/transfer/link"
)

func init() {
	// A step dies with the thread that started it (Pdeathsig), so the call must
	// stay on the thread that lives as long as the process.
	runtime.LockOSThread()
}

func main() {
	switch {
	case len(os.Args) == 2 && os.Args[1] == "call":
		os.Exit(inguest.Serve(os.Stdin, os.Stdout))
	case len(os.Args) == 2 && os.Args[1] == "transfer":
		os.Exit(transfer())
	case len(os.Args) == 2 && os.Args[1] == "version":
		fmt.Println("imago-agent", wire.Version)
	default:
		fmt.Fprintln(os.Stderr, "imago-agent is run by imago over SSH; usage: imago-agent call | transfer | version")
		os.Exit(2)
	}
}

// transfer serves one data set over the process's streams until the host closes
// them or says so.
func transfer() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := link.Serve(ctx, os.Stdin, os.Stdout, log); err != nil {
		fmt.Fprintln(os.Stderr, "imago-agent:", err)
		return 1
	}
	return 0
}
