// Package regulate decides how fast a transfer may run, so that production does
// not feel it.
//
// It is pure logic: it reads nothing, starts nothing and asks no clock. A driver
// measures (clients' latency on the bridge, block latency of production's disks,
// pressure stall information), hands each reading to [Regulator.Observe], calls
// [Regulator.Step] about once a second and applies the [Verdict]. Because time is
// a parameter, a whole day can be simulated in a moment.
//
// # How it decides
//
// A background transfer that must yield to foreground work, judged by the delay
// it adds, is what LEDBAT solves for networks (RFC 6817), and its successor
// LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus) repairs the flaw that a sender
// takes the delay that it causes itself for the path's own. What is taken from there:
//
//   - The share grows and shrinks in proportion to how much of the allowed rise is
//     used up; the aim is half of it. Slow start doubles only up to the share
//     at which production was hurt last; beyond that the share grows by small steps.
//   - Shares that hurt are cut by half at once (multiplicative decrease: Chiu and
//     Jain, 1989, show that this is what converges).
//   - Periodic slowdowns: the transfer stops for a moment, at most a tenth of the time, to learn
//     what production is like without it. Only readings wholly from such pauses
//     are learnt, so that the transfer's own load is never taken as normal, and
//     a slower evening is not taken for the transfer's fault.
//
// From MS Manners (Douceur and Bolosky, "Progress-based regulation of
// low-importance processes", SOSP 1999) come two more: a judgement needs
// evidence that noise alone would rarely give, and where even the smallest share hurts, rests that
// double in length, so that trying costs production nothing that it could notice.
//
// When production looks hurt, the transfer stops first and asks afterwards: the
// pause tells whether production is as slow without it.
//
// # When it is closed
//
// A signal of which nothing is known for [Stale] closes the regulator, whatever
// its last value was. A signal can be left out only by configuration, with a reason that
// every verdict repeats. A floor, a share that is kept up although production
// suffers, exists only if the plan asks for one; a stale signal closes that too.
package regulate
