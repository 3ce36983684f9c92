// Package guestagent reaches into guests: SSH with pinned host keys, files over
// SFTP, and the agent (package inguest, program imago-agent) that runs steps,
// hashes and walks files there. It owns the connection, the agent's deployment
// and the transfer of files between guests and the host.
//
// It does not decide what to run, knows nothing about hypervisors or networks
// (the caller gives it a Dial), and never trusts a host key it was not given.
//
// A guest is not trusted either: whatever it sends is bounded in memory, checked
// before use, and cleaned by Clean before a person sees it.
package guestagent
