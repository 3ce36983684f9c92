// Package report owns what an upgrade leaves for people: report.json for programs and report.html, one file that a
// browser opens without a network, for the board that decides about changes. It also reads the clients' request logs
// that both tell of.
//
// The package gets plain values and draws conclusions only from them: totals, whether isolation was proved, whether a
// client met a mixture of versions. It asks neither libvirt nor the journal, and what was not measured it says so.
package report
