// Package control is how another terminal talks to an imago that is at work: a
// unix socket that only root may open, HTTP and JSON on it. It carries progress
// out and limits in; it knows nothing of what either means.
package control
