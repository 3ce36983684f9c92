// Command imago upgrades whole applications that run in libvirt VMs: it clones
// them into a parallel universe, converts and tests there, and switches the
// clients over in one step.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"imago.dev/imago/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
	stop()
	os.Exit(code)
}
