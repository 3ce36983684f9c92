// Command build builds images by name and prints them as JSON: a way to the
// images package for people and scripts that have no plan.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"imago.dev/imago/images"
	"imago.dev/imago/images/recipes"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	catalogue, err := images.LoadCatalogue(recipes.FS)
	if err != nil {
		return err
	}
	if len(args) < 2 {
		return fmt.Errorf("usage: build CACHE-DIR NAME...\nnames: %v", catalogue.Names())
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	b := &images.Builder{Catalogue: catalogue, CacheDir: args[0], Log: log}
	built, err := b.Build(ctx, args[1:]...)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(built)
}
