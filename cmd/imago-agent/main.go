// Command imago-agent is uploaded into guests and driven by imago over an SSH
// channel, one process per call; package inguest is what it does. Build it with
//
//	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' ./cmd/imago-agent
//
// so that it runs in any guest of that architecture.
package main

import (
	"fmt"
	"os"
	"runtime"

	"imago.dev/imago/guestagent/inguest"
	"imago.dev/imago/guestagent/wire"
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
	case len(os.Args) == 2 && os.Args[1] == "version":
		fmt.Println("imago-agent", wire.Version)
	default:
		fmt.Fprintln(os.Stderr, "imago-agent is run by imago over SSH; usage: imago-agent call | version")
		os.Exit(2)
	}
}
