package benchtransfer

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
)

// loadOrder asks the loading process for one window of load.
type loadOrder struct {
	Rows   int           // of shop.wide
	Rate   float64       // operations a second by a schedule; 0 is as fast as it goes
	Warm   time.Duration // at the beginning, not counted
	Window time.Duration
}

// loadResult is what a window showed. Latencies count from when the operation was
// due, so that a stall is seen by all that waited for it.
type loadResult struct {
	Rate     float64
	P50, P99 float64 // ms
	Error    string
}

// loaders are production's connections.
const loaders = 8

// serveLoad does what orders on in say, until in ends.
func serveLoad(socket string, in io.Reader, out io.Writer) error {
	var conns []*client.Conn
	for range loaders {
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
		c, err := client.ConnectWithDialer(context.Background(), "unix", socket, "root", "", "shop", dial)
		if err != nil {
			return fmt.Errorf("connect to production: %w", err)
		}
		conns = append(conns, c)
	}
	answers := json.NewEncoder(out)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var o loadOrder
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			return err
		}
		if err := answers.Encode(o.run(conns)); err != nil {
			return err
		}
	}
	return nil
}

func (o loadOrder) run(conns []*client.Conn) loadResult {
	began := time.Now()
	end := began.Add(o.Warm + o.Window)
	due := make(chan time.Time, 1+int(o.Rate*(o.Warm+o.Window).Seconds()*2))
	go func() {
		defer close(due)
		r := rand.New(rand.NewPCG(1, 2)) // the same arrivals in each window
		for at := began; o.Rate > 0; {
			at = at.Add(time.Duration(r.ExpFloat64() / o.Rate * float64(time.Second)))
			if at.After(end) {
				return
			}
			time.Sleep(time.Until(at))
			due <- at
		}
		for time.Now().Before(end) {
			due <- time.Now()
		}
	}()
	var mu sync.Mutex
	var latencies []float64
	var failed error
	var wait sync.WaitGroup
	for _, c := range conns {
		wait.Go(func() {
			var mine []float64
			var err error
			for at := range due {
				if err == nil {
					err = operate(c, o.Rows)
				}
				if at.Sub(began) >= o.Warm {
					mine = append(mine, time.Since(at).Seconds()*1000)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			latencies = append(latencies, mine...)
			if err != nil {
				failed = err
			}
		})
	}
	wait.Wait()
	if failed == nil && len(latencies) == 0 {
		failed = fmt.Errorf("no operation in %v", o.Window)
	}
	if failed != nil {
		return loadResult{Error: failed.Error()}
	}
	slices.Sort(latencies)
	return loadResult{Rate: float64(len(latencies)) / (time.Since(began) - o.Warm).Seconds(), P50: latencies[len(latencies)/2], P99: latencies[len(latencies)*99/100]}
}

// operate reads two rows; one in five writes one, too.
func operate(c *client.Conn, n int) error {
	for range 2 {
		if _, err := c.Execute(fmt.Sprintf("SELECT name, b, c FROM wide WHERE id=%d", 1+rand.IntN(n))); err != nil {
			return err
		}
	}
	if rand.IntN(5) > 0 {
		return nil
	}
	_, err := c.Execute(fmt.Sprintf("INSERT INTO orders (item, note) VALUES (%d, 'one of the new rows that production gets')", 1+rand.IntN(n)))
	return err
}
