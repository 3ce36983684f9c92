package convert

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// object is one that a program is asked about.
type object struct {
	key    []rows.Cell
	rows   [][]value
	bytes  int
	answer *answer
}

// byProgram selects the rows of objects, has the program turn them into new ones,
// and puts those aside.
func (f *filling) byProgram(keys [][]rows.Cell) ([]Rejected, error) {
	objects, err := f.selectObjects(keys)
	if err != nil {
		return nil, err
	}
	rejected, err := f.askProgram(objects)
	if err != nil {
		return nil, err
	}
	bad, err := f.putAnswers(objects)
	return append(rejected, bad...), err
}

// selectObjects reads the rows of objects, and leaves out objects without any.
func (f *filling) selectObjects(keys [][]rows.Cell) ([]*object, error) {
	p := f.p
	var b strings.Builder
	b.WriteString("SELECT CASE")
	for i, key := range keys {
		fmt.Fprintf(&b, " WHEN %s THEN %d", p.key.is(p.selectPlace(), key), i)
	}
	b.WriteString(" END")
	for i := range p.selected {
		b.WriteString("," + p.selected[i].expression())
	}
	fmt.Fprintf(&b, " FROM %s c WHERE %s ORDER BY 1", p.derived(keys), f.where(keys))
	objects := make([]*object, len(keys))
	err := f.s.query(b.String(), func(values [][]byte) error {
		i, err := strconv.Atoi(string(values[0]))
		if err != nil || i < 0 || i >= len(keys) {
			return fmt.Errorf("object number %q of the server", values[0])
		}
		if objects[i] == nil {
			objects[i] = &object{key: keys[i]}
		}
		row := make([]value, len(p.selected))
		for j := range p.selected {
			row[j] = p.selected[j].value(values[j+1])
			objects[i].bytes += len(values[j+1])
		}
		objects[i].rows = append(objects[i].rows, row)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := f.s.warnings(); err != nil {
		return nil, err
	}
	var some []*object
	for _, o := range objects {
		if o != nil {
			some = append(some, o)
		}
	}
	return some, nil
}

// warnings makes an error of what a SELECT only warns of: a value that was cut is
// no value to convert.
func (s *session) warnings() error {
	var found error
	err := s.query("SHOW WARNINGS LIMIT 5", func(v [][]byte) error {
		if found == nil && !strings.EqualFold(string(v[0]), "Note") {
			found = &dataError{fmt.Errorf("%s (warning %s)", v[2], v[1])}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return found
}

// askProgram has the program answer for all objects. When it fails, each object is
// asked about alone, and those that it fails over are refused; when it answers for
// none, the program is at fault and not the objects.
func (f *filling) askProgram(objects []*object) ([]Rejected, error) {
	if len(objects) == 0 {
		return nil, nil
	}
	err := f.askSome(objects)
	var broken *programError
	if err == nil || !errors.As(err, &broken) {
		return f.refused(objects), err
	}
	if len(objects) == 1 {
		objects[0].answer = &answer{reject: clean(err.Error())}
		return f.refused(objects), nil
	}
	failed := 0
	for i, o := range objects {
		err := f.askSome(objects[i : i+1])
		if err != nil && !errors.As(err, &broken) {
			return nil, err
		}
		if err != nil {
			failed++
			o.answer = &answer{reject: clean(err.Error())}
		}
		if failed >= 3 && failed == i+1 {
			return nil, fmt.Errorf("it failed for every object it was asked about: %w", err)
		}
	}
	return f.refused(objects), nil
}

// refused are the objects that the program refuses.
func (f *filling) refused(objects []*object) []Rejected {
	var rejected []Rejected
	for _, o := range objects {
		if o.answer != nil && o.answer.reject != "" {
			rejected = append(rejected, Rejected{Key: o.key, Reason: o.answer.reject})
		}
	}
	return rejected
}

func (f *filling) askSome(objects []*object) error {
	lines := make([][]byte, len(objects))
	for i, o := range objects {
		lines[i] = f.p.line(o)
		o.answer = nil
	}
	return f.p.pool.ask(f.s.ctx, lines, func(i int, line []byte) error {
		a, err := f.p.parseAnswer(line, objects[i])
		objects[i].answer = a
		return err
	})
}

// putAnswers inserts the program's rows, all at once or, when the server refuses
// some, object by object.
func (f *filling) putAnswers(objects []*object) ([]Rejected, error) {
	var some []*object
	for _, o := range objects {
		if o.answer != nil && o.answer.reject == "" && len(o.answer.rows) > 0 {
			some = append(some, o)
		}
	}
	const atOnce = 1 << 20
	var rejected []Rejected
	for from := 0; from < len(some); {
		to, size := from, 0
		for to < len(some) && (to == from || size < atOnce) {
			size += some[to].bytes
			to++
		}
		bad, err := f.putSome(some[from:to])
		if err != nil {
			return nil, err
		}
		rejected, from = append(rejected, bad...), to
	}
	return rejected, nil
}

func (f *filling) putSome(objects []*object) ([]Rejected, error) {
	_, err := f.s.exec(f.p.insertAnswers(objects))
	data, ok := asData(err)
	if !ok {
		return nil, err
	}
	if len(objects) == 1 {
		return []Rejected{{Key: objects[0].key, Reason: data.reason()}}, nil
	}
	var rejected []Rejected
	for i := range objects {
		bad, err := f.putSome(objects[i : i+1])
		if err != nil {
			return nil, err
		}
		rejected = append(rejected, bad...)
	}
	return rejected, nil
}

func (p *Prepared) insertAnswers(objects []*object) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "INSERT INTO %s (%s) VALUES ", p.aside.name, p.writtenList(""))
	sep := "("
	for _, o := range objects {
		for _, row := range o.answer.rows {
			b.WriteString(sep)
			for i, literal := range row {
				if i > 0 {
					b.WriteByte(',')
				}
				b.Write(literal)
			}
			b.WriteByte(')')
			sep = ",("
		}
	}
	return b.String()
}
