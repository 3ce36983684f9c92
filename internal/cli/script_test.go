package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/crypto/ssh"
)

// TestMain lets this test binary stand for the imago command in the scripts.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"imago": func() {
			os.Exit(Run(context.Background(), os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
		},
	})
}

// TestScripts runs the command lines of testdata/script: what needs no VM.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: putAgent, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"code": code, "mkkey": makeKey,
	}})
}

// code runs imago and compares its exit code: "code 2 check plan.yaml".
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N ARG...")
	}
	got := "0"
	if err := ts.Exec("imago", args[1:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("imago %v: %v", args[1:], err)
		}
		got = strconv.Itoa(exit.ExitCode())
	}
	if got != args[0] {
		ts.Fatalf("imago %v: exit code %s, want %s", args[1:], got, args[0])
	}
}

// makeKey writes an SSH private key: "mkkey FILE".
func makeKey(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkkey FILE")
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	ts.Check(err)
	block, err := ssh.MarshalPrivateKey(private, "")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), pem.EncodeToMemory(block), 0o600))
}

// putAgent lays a file where imago looks for the guests' agent: beside itself.
// The scripts reach no guest that could run it.
func putAgent(env *testscript.Env) error {
	imago, err := exec.LookPath("imago")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(filepath.Dir(imago), "imago-agent"), []byte("no program"), 0o600)
}
