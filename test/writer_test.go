package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

// writerEnv makes this test binary a process that writes to the store, inside of
// a lab: server address, number of writers, file for acknowledged serials.
const writerEnv = "IMAGO_TEST_WRITER"

const storeVIP = "198.51.100.80:3306"

// writeAll writes until it is told to stop by SIGTERM.
func writeAll() int {
	f := strings.Split(os.Getenv(writerEnv), ",")
	n, _ := strconv.Atoi(f[1])
	log, err := os.OpenFile(f[2], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer log.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range n {
		w := &storeWriter{addr: f[0], name: fmt.Sprintf("w%d-%d", os.Getpid(), i), rnd: rand.New(rand.NewPCG(uint64(os.Getpid()), uint64(i)))}
		w.note = func(e written) {
			mu.Lock()
			defer mu.Unlock()
			_ = json.NewEncoder(log).Encode(e)
		}
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
	return 0
}

// written is one line of the writers' books.
type written struct {
	Client string `json:"client"`
	Serial int    `json:"serial"`
	// Acked: the server said that it is committed. Without it nobody knows.
	Acked bool    `json:"acked"`
	Error string  `json:"error,omitempty"`
	MS    float64 `json:"ms"`
	New   bool    `json:"new"` // by the new version
}

// storeWriter makes transactions over several tables, of every kind of change.
type storeWriter struct {
	addr, name string
	rnd        *rand.Rand
	note       func(written)
	conn       *client.Conn
	fresh      bool // the new version serves
}

func (w *storeWriter) run(ctx context.Context) {
	for serial := 0; ctx.Err() == nil; serial++ {
		began := time.Now()
		err := w.transaction(serial)
		e := written{Client: w.name, Serial: serial, Acked: err == nil, MS: float64(time.Since(began).Microseconds()) / 1000, New: w.fresh}
		if err != nil {
			e.Error = err.Error()
			w.hangUp()
		}
		w.note(e)
		if serial%5 == 4 {
			w.hangUp() // as an application that connects for each page
		}
		time.Sleep(time.Duration(30+w.rnd.IntN(60)) * time.Millisecond)
	}
	w.hangUp()
}

func (w *storeWriter) hangUp() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

func (w *storeWriter) connect() error {
	if w.conn != nil {
		return nil
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := net.Dialer{Timeout: 2 * time.Minute}
		return d.DialContext(ctx, network, addr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, err := client.ConnectWithDialer(ctx, "tcp", w.addr, "store", "lab-store-4711", "store", dial)
	if err != nil {
		return err
	}
	w.conn = conn
	for _, q := range []string{"SET NAMES utf8mb4", "SET sql_mode = 'ALLOW_INVALID_DATES'", "SET SESSION innodb_lock_wait_timeout = 20"} {
		if _, err := conn.Execute(q); err != nil {
			return err
		}
	}
	res, err := conn.Execute("SHOW TABLES LIKE 'client'")
	if err == nil {
		w.fresh = res.RowNumber() == 1
		res.Close()
	}
	return err
}

// transaction makes one transaction and its line in the ledger.
func (w *storeWriter) transaction(serial int) error {
	if err := w.connect(); err != nil {
		return err
	}
	ops := []func() []string{w.newOrder, w.changeOrder, w.dropOrder, w.newKind, w.changeKind, w.dropKind}
	if !w.fresh {
		ops = append(ops, w.changeCustomer, w.newCustomer)
	}
	qs := []string{"START TRANSACTION"}
	for range 1 + w.rnd.IntN(3) {
		qs = append(qs, ops[w.rnd.IntN(len(ops))]()...)
	}
	qs = append(qs, fmt.Sprintf("INSERT INTO ledger (client, serial) VALUES ('%s', %d)", w.name, serial), "COMMIT")
	for _, q := range qs {
		if _, err := w.conn.Execute(q); err != nil && !harmless(err) {
			return fmt.Errorf("%.80s: %w", q, err)
		}
	}
	return nil
}

// harmless tells a duplicate key of a random value from a failure.
func harmless(err error) bool {
	var m *mysql.MyError
	return errors.As(err, &m) && m.Code == mysql.ER_DUP_ENTRY
}

func (w *storeWriter) newOrder() []string {
	qs := []string{fmt.Sprintf("INSERT INTO orders (customer, total, placed, note) VALUES (%d, %d.%02d, NOW(3), %s)", 1+w.rnd.IntN(2000), w.rnd.IntN(9999), w.rnd.IntN(100), w.text()), "SET @o = LAST_INSERT_ID()"}
	for i := range w.rnd.IntN(4) {
		qs = append(qs, fmt.Sprintf("INSERT INTO order_line (orders, line, sku, pieces, price) VALUES (@o, %d, 'SKU-%d', %d, 1.5)", i, w.rnd.IntN(99), 1+w.rnd.IntN(9)))
	}
	return qs
}

func (w *storeWriter) changeOrder() []string {
	return []string{fmt.Sprintf("UPDATE orders SET note = %s, total = total + 0.01 WHERE id = %d", w.text(), 1+w.rnd.IntN(6000))}
}

func (w *storeWriter) dropOrder() []string {
	id := 1 + w.rnd.IntN(6000)
	return []string{fmt.Sprintf("DELETE FROM order_line WHERE orders = %d", id), fmt.Sprintf("DELETE FROM orders WHERE id = %d", id)}
}

func (w *storeWriter) newKind() []string {
	return []string{fmt.Sprintf(`INSERT INTO kinds (t, tu, s, su, m, mu, i, iu, b, bu, d, f, e, bits, c, v, u, txt, bin, vb, bl, dt, tm, dtm, ts, y, en, se, j, ip, g) VALUES
		(%d, %d, -32768, 65535, -8388608, 16777215, -2147483648, 4294967295, -9223372036854775808, 18446744073709551615, -12345678901234.567890, %g, %g, b'1010101010101',
		'trail  ', %s, %s, %s, 0x000102, 0x%x, %s, '0000-00-00', '-838:59:58.99', '9999-12-31 23:59:59.999999', NULL, 0, 'large', 'red,blue', '{"a": [1, 2, "\\u00e9"]}', '2001:db8::%x', POINT(%d, 2))`,
		w.rnd.IntN(256)-128, w.rnd.IntN(256), w.rnd.Float32(), w.rnd.NormFloat64()*1e200, w.text(), w.text(), w.text(), w.rnd.Uint64(), w.blob(), w.rnd.IntN(65536), w.rnd.IntN(1000))}
}

func (w *storeWriter) changeKind() []string {
	return []string{fmt.Sprintf("UPDATE kinds SET f = %g, e = NULL, txt = %s, dt = '2020-02-30', ts = '1970-01-01 00:00:01', en = 'small', se = '', bits = 0, bl = %s WHERE id = %d", w.rnd.Float32(), w.text(), w.blob(), 1+w.rnd.IntN(1500))}
}

func (w *storeWriter) dropKind() []string {
	return []string{fmt.Sprintf("DELETE FROM kinds WHERE id = %d", 1+w.rnd.IntN(3000))}
}

func (w *storeWriter) changeCustomer() []string {
	id := 1 + w.rnd.IntN(2000)
	return []string{fmt.Sprintf("UPDATE customer SET name = CONCAT('Zoë ', %d), email = CONCAT('x', %d, '@example.org'), since = IF(id MOD 2, '0000-00-00', CURDATE()) WHERE id = %d", w.rnd.IntN(99999), w.rnd.IntN(1<<30), id)}
}

func (w *storeWriter) newCustomer() []string {
	return []string{fmt.Sprintf("INSERT INTO customer (name, email) VALUES ('New One %d', 'n%d@example.com')", w.rnd.IntN(99), w.rnd.IntN(1<<30))}
}

func (w *storeWriter) text() string {
	words := []string{"NULL", "''", "'plain'", "'emoji 😀🔔'", "'quote '' and \\\\ back'", "'umläut'", "'0'", "'two\\nlines\\0nul'"}
	return words[w.rnd.IntN(len(words))]
}

func (w *storeWriter) blob() string {
	switch w.rnd.IntN(12) {
	case 0:
		return "NULL"
	case 1:
		return fmt.Sprintf("REPEAT(0x00275c0aff%02x, %d)", w.rnd.IntN(256), 20000+w.rnd.IntN(20000))
	}
	return fmt.Sprintf("0x%032x%016x", w.rnd.Uint64(), w.rnd.Uint64())
}

// writers are processes of storeWriters in the lab.
type writers struct {
	h    *host
	file string
	stop func(*testing.T)
}

// startWriters begins writing through the virtual IP.
func (h *host) startWriters(t *testing.T, n int) *writers {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w := &writers{h: h, file: fmt.Sprintf("%s/writers-%d.jsonl", h.lab.Dir, time.Now().UnixNano())}
	cmd := h.lab.Command(context.Background(), "ip", "netns", "exec", "clients", "env", fmt.Sprintf("%s=%s,%d,%s", writerEnv, storeVIP, n, w.file), self)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	w.stop = func(t *testing.T) {
		once.Do(func() {
			h.run(t, "pkill", "-TERM", "-f", "^"+self+"$")
			if err := cmd.Wait(); err != nil {
				t.Errorf("the writers: %v", err)
			}
		})
	}
	t.Cleanup(func() { w.stop(t) })
	return w
}

// books reads what the writers noted.
func (w *writers) books(t *testing.T) []written {
	t.Helper()
	f, err := os.Open(w.file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []written
	for s := bufio.NewScanner(f); s.Scan(); {
		var e written
		if json.Unmarshal(s.Bytes(), &e) == nil {
			out = append(out, e)
		}
	}
	return out
}

// reach waits until so many more transactions are acknowledged.
func (w *writers) reach(t *testing.T, n int, fresh bool) {
	t.Helper()
	from := len(w.books(t))
	await(t, fmt.Sprintf("%d more writes", n), 3*time.Minute, func() error {
		got := 0
		for _, e := range w.books(t)[from:] {
			if e.Acked && e.New == fresh {
				got++
			}
		}
		if got < n {
			return fmt.Errorf("%d so far", got)
		}
		return nil
	})
}
