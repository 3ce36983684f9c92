package regulate

import "time"

// Stale is the age from which a reading is worth nothing and the regulator closes.
const Stale = 15 * time.Second

// Signal says how one measurement of production is judged. What it may reach is
// learnt: the value without the transfer, plus the larger of Rise and Slack,
// and never more than Limit.
type Signal struct {
	Name  string  // in words, as reasons say it: "clients' latency", "I/O pressure of web"
	Unit  string  // "ms" or "%", written after values
	Rise  float64 // allowed rise over the value without the transfer: 0.1 is a tenth
	Slack float64 // allowed rise in the signal's unit, however small the value is; what is below it is noise
	Limit float64 // absolute limit: from here on the transfer stops, whoever is to blame; 0 is none
}

// Reading is one measurement of a signal. It covers the time from From to At.
//
// For a signal with a distribution (latency) Buckets hold it and Value is not
// used: the regulator then compares the highest quantile, up to p99, that enough requests
// lie above.
type Reading struct {
	From, At time.Time
	Value    float64
	Buckets  []Bucket // in ascending order of Value
	Idle     bool     // measured, but nothing happened: a quiet night, not an unknown
}

// Bucket counts observations of about one value.
type Bucket struct {
	Value float64
	Count int
}

// LeftOut is a signal that the regulator does without.
type LeftOut struct {
	Name string
	Why  string // in words: "this kernel has no pressure stall information"
}
