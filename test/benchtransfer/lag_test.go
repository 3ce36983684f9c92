package benchtransfer

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/convert/dbtest"
)

const (
	// writesPerSecond is the stream whose lag is measured.
	writesPerSecond = 2000
	lagWindow       = 2 * time.Second
)

// measureLag writes to production at a steady rate and looks when the rows can be
// read at the follower: native, imago, native, and so on.
func measureLag(l *logged) {
	var native, ours [2][]float64 // p50 and p99, in ms
	var rate []float64
	reader := l.replicas[0].Connect(l.t)
	window := func(into *[2][]float64, s *dbtest.Server, c *client.Conn, table string) {
		p50, p99, done := l.lag(s, c, table)
		into[0], into[1] = append(into[0], p50), append(into[1], p99)
		rate = append(rate, done)
	}
	replica := func() {
		l.native(0, position(l.t, l.log))
		l.replicas[0].Exec(l.t, l.rc[0], "START SLAVE")
		time.Sleep(200 * time.Millisecond)
		window(&native, l.replicas[0], reader, "log.wide")
		l.awaitReplica(0, position(l.t, l.log))
		l.replicas[0].Exec(l.t, l.rc[0], "STOP SLAVE")
	}
	replica()
	for range repeats {
		l.ours(position(l.t, l.log))
		stop := l.x.follow(l.log, l.schema)
		time.Sleep(200 * time.Millisecond)
		window(&ours, l.target, l.tc, "new.wide")
		l.x.settle(position(l.t, l.log))
		stop()
		replica()
	}
	t := &table{title: fmt.Sprintf("3. Lag of a stream of %s, from production's answer until the row can be read at the follower", figure(rate, "writes/s"))}
	t.add("", "native", "imago", "ratio", "A/A")
	for i, name := range []string{"p50", "p99"} {
		t.add(name, figure(native[i], "ms"), figure(ours[i], "ms"), verdict(against(native[i], ours[i]), pairs(native[i])), interval(pairs(native[i])))
	}
	t.note("looked each 2 ms")
	t.print(os.Stdout)
}

// lag writes rows with growing ids by a schedule, and asks the follower for the
// greatest one meanwhile.
func (l *logged) lag(s *dbtest.Server, c *client.Conn, table string) (p50, p99, rate float64) {
	t, first := l.t, l.next
	answered := make([]time.Time, 0, writesPerSecond*3)
	wrote := make(chan error, 1)
	began := time.Now()
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			due := began.Add(time.Duration(i) * time.Second / writesPerSecond)
			if due.Sub(began) >= lagWindow {
				break
			}
			time.Sleep(time.Until(due))
			_, err = l.pc.Execute(fmt.Sprintf("INSERT INTO log.wide (id,a,name,b,c) VALUES (%d,1,'lag','some text','some more text')", first+i))
			answered = append(answered, time.Now())
		}
		wrote <- err
	}()
	type look struct {
		at  time.Time
		max int
	}
	var looks []look
	last := -1
	for deadline := began.Add(time.Minute); last < 0 || len(looks) == 0 || looks[len(looks)-1].max < last; time.Sleep(2 * time.Millisecond) {
		max, err := strconv.Atoi(s.Rows(t, c, "SELECT MAX(id) FROM "+table)[0])
		if err != nil {
			t.Fatal(err)
		}
		looks = append(looks, look{time.Now(), max})
		select {
		case err := <-wrote:
			if err != nil {
				t.Fatal(err)
			}
			last = first + len(answered) - 1
			rate = float64(len(answered)) / time.Since(began).Seconds()
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("rows up to %d of %d arrived in a minute", max, last)
		}
	}
	l.next = last + 1
	lags := make([]float64, 0, len(answered))
	for i, n := 0, 0; n < len(answered); n++ {
		for looks[i].max < first+n {
			i++
		}
		lags = append(lags, max(0, looks[i].at.Sub(answered[n]).Seconds()*1000))
	}
	slices.Sort(lags)
	return lags[len(lags)/2], lags[len(lags)*99/100], rate
}
