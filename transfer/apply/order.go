package apply

import (
	"fmt"

	"imago.dev/imago/transfer/rows"
)

// mostAsked is how many comparisons one question to the server has.
const mostAsked = 1000

// orders tells how keys compare with bounds: one row for each key, -1, 0 or 1 for
// each bound. What is not known here is asked of the clone, in whose order the
// bounds were made; ask is called only then.
func (t *table) orders(ask func() (*conn, error), keys, bounds [][]rows.Cell) ([][]int, error) {
	out := make([][]int, len(keys))
	flat := make([]int, len(keys)*len(bounds))
	for i := range keys {
		out[i] = flat[i*len(bounds) : (i+1)*len(bounds)]
	}
	known := true
	for i, k := range keys {
		for j, b := range bounds {
			if out[i][j], known = rows.CompareKeys(t.bounds, k[:len(b)], b); !known {
				return out, t.askOrders(ask, keys, bounds, flat)
			}
		}
	}
	return out, nil
}

func (t *table) askOrders(ask func() (*conn, error), keys, bounds [][]rows.Cell, flat []int) error {
	c, err := ask()
	if err != nil {
		return err
	}
	for from := 0; from < len(flat); from += mostAsked {
		q := []byte("SELECT ")
		upto := min(from+mostAsked, len(flat))
		for n := from; n < upto; n++ {
			if n > from {
				q = append(q, ',')
			}
			k, b := t.tuple(keys[n/len(bounds)][:t.orderable]), t.tuple(bounds[n%len(bounds)])
			q = append(q, '(')
			q = append(append(append(q, k...), "<="...), b...)
			q = append(q, ")+("...)
			q = append(append(append(q, k...), '<'), b...)
			q = append(q, ')')
		}
		_, err := c.query(string(q), func(v [][]byte) error {
			for i := range v {
				if len(v[i]) != 1 {
					return fmt.Errorf("the clone cannot compare keys of %s", t.src.Name)
				}
				// 0 is greater, 1 is equal, 2 is less.
				flat[from+i] = 1 - int(v[i][0]-'0')
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("compare keys of %s: %w", t.src.Name, err)
		}
	}
	return nil
}

// tuple is "(1,'a')", comparable as a whole.
func (t *table) tuple(key []rows.Cell) []byte {
	b := []byte{'('}
	for i, v := range key {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendOrdered(b, t.cols[i], v)
	}
	return append(b, ')')
}
