package binlog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/client"

	"imago.dev/imago/transfer/rows"
)

// A matrixCase is one type and expressions for values of it; want are the canonical
// forms of those, or of as many as it has.
type matrixCase struct {
	typ    string
	values []string
	want   []string
}

// matrix are all types with their boundaries.
func matrix() []matrixCase {
	list := []matrixCase{
		{"TINYINT", []string{"-128", "127", "0", "-1"}, []string{"-128", "127", "0", "-1"}},
		{"TINYINT UNSIGNED", []string{"0", "255", "128"}, []string{"0", "255", "128"}},
		{"TINYINT(1)", []string{"1", "0", "-5"}, nil},
		{"BOOLEAN", []string{"TRUE", "FALSE"}, []string{"1", "0"}},
		{"SMALLINT", []string{"-32768", "32767"}, []string{"-32768", "32767"}},
		{"SMALLINT UNSIGNED", []string{"65535", "32768"}, []string{"65535"}},
		{"MEDIUMINT", []string{"-8388608", "8388607", "-1"}, []string{"-8388608", "8388607", "-1"}},
		{"MEDIUMINT UNSIGNED", []string{"16777215", "8388608"}, []string{"16777215", "8388608"}},
		{"INT", []string{"-2147483648", "2147483647"}, []string{"-2147483648"}},
		{"INT UNSIGNED", []string{"4294967295", "2147483648", "0"}, []string{"4294967295"}},
		{"INT(8) UNSIGNED ZEROFILL", []string{"42", "0", "4294967295"}, []string{"42", "0", "4294967295"}},
		{"BIGINT", []string{"-9223372036854775808", "9223372036854775807"}, []string{"-9223372036854775808"}},
		{"BIGINT UNSIGNED", []string{"18446744073709551615", "9223372036854775808"}, []string{"18446744073709551615", "9223372036854775808"}},
		{"DECIMAL(10,2)", []string{"-1.5", "0", "-0.00", "99999999.99", "-99999999.99", "0.01", "-0.01"},
			[]string{"-1.50", "0.00", "0.00", "99999999.99", "-99999999.99", "0.01", "-0.01"}},
		{"DECIMAL(65,30)", []string{"99999999999999999999999999999999999.999999999999999999999999999999", "-0.000000000000000000000000000001",
			"123456789012345678.000000000100000000010000000001"}, nil},
		{"DECIMAL(65,0)", []string{strings.Repeat("9", 65), "-" + strings.Repeat("9", 65), "0", "-7"}, nil},
		{"DECIMAL(30,30)", []string{"0.5", "-0." + strings.Repeat("9", 30), "0"}, nil},
		{"DECIMAL(9,9)", []string{"0.000000001"}, []string{"0.000000001"}},
		{"DECIMAL(18,9)", []string{"-999999999.999999999", "1000000.0000001"}, []string{"-999999999.999999999", "1000000.000000100"}},
		{"DECIMAL(1,0)", []string{"9", "-9"}, []string{"9", "-9"}},
		{"DECIMAL(8,3) UNSIGNED ZEROFILL", []string{"1.5", "0", "99999.999"}, []string{"1.500", "0.000", "99999.999"}},
		{"FLOAT", []string{"0.1", "1e20", "-3.4028234663852886e38", "1.401298464324817e-45", "16777216", "0.3333333333", "'-0'", "1234567.8", "'-0'", "0e0*-1", "ROUND(-0.4e0)", "-1e-300*1e-300"},
			[]string{"0.1", "1e+20", "-3.4028235e+38", "1e-45", "1.6777216e+07"}},
		{"FLOAT UNSIGNED", []string{"2.5", "3.4e38"}, nil},
		{"FLOAT(7,2)", []string{"0.1", "99999.99", "-12345.67", "33.333"}, nil},
		{"FLOAT(8,3) ZEROFILL", []string{"0.1", "9999.999"}, nil},
		{"DOUBLE", []string{"0.1", "1.7976931348623157e308", "-2.2250738585072014e-308", "4.9406564584124654e-324", "'-0'", "0e0*-1", "ROUND(-0.4e0)", "-1e-300*1e-300", "-0e0",
			"123456789.123456789", "0.30000000000000004", "1e15", "1e17", "12345678901234567890"},
			[]string{"0.1", "1.7976931348623157e+308", "-2.2250738585072014e-308", "5e-324", "0"}},
		{"DOUBLE(12,3)", []string{"0.1", "999999999.999", "-1.0005", "33.3333"}, nil},
		{"DOUBLE(30,10)", []string{"12345678901234567.1234567891", "0.1"}, nil},
		{"DOUBLE UNSIGNED ZEROFILL", []string{"0.1", "7"}, nil},
		{"BIT(1)", []string{"b'0'", "b'1'"}, []string{"0", "1"}},
		{"BIT(8)", []string{"b'11111111'", "0x41"}, []string{"255", "65"}},
		{"BIT(9)", []string{"b'100000001'", "1"}, []string{"257", "1"}},
		{"BIT(64)", []string{"18446744073709551615", "9223372036854775808", "0"}, []string{"18446744073709551615", "9223372036854775808", "0"}},
		{"BIT(33)", []string{"8589934591"}, []string{"8589934591"}},
		{"DATE", []string{"'2026-11-23'", "'0000-00-00'", "'2026-00-00'", "'2026-11-00'", "'9999-12-31'", "'0001-01-01'", "'2026-02-31'"},
			[]string{"2026-11-23", "0000-00-00", "2026-00-00", "2026-11-00", "9999-12-31", "0001-01-01", "2026-02-31"}},
		{"YEAR", []string{"2026", "1901", "2155", "0"}, []string{"2026", "1901", "2155", "0000"}},
		{"BINARY(4)", []string{"''", "'a'", "X'00000000'", "X'61006200'", "X'61622020'", "X'FFFFFFFF'", "X'00000001'"},
			[]string{"\x00\x00\x00\x00", "a\x00\x00\x00"}},
		{"BINARY", []string{"'a'", "X'00'"}, []string{"a", "\x00"}},
		{"BINARY(255)", []string{"''", "REPEAT('x',255)"}, nil},
		{"VARBINARY(10)", []string{"''", "X'00'", "X'6100'", "'a '", "X'275C00FF'"}, []string{"", "\x00", "a\x00", "a ", "'\\\x00\xff"}},
		{"VARBINARY(1000)", []string{"''", "REPEAT(X'00',1000)", "REPEAT(X'27',300)"}, nil},
		{"TINYBLOB", []string{"''", "REPEAT(X'FF',255)"}, nil},
		{"BLOB", []string{"''", "REPEAT(X'5C27',20000)", "X'000102'"}, nil},
		{"MEDIUMBLOB", []string{"REPEAT('abc\\0',300000)"}, nil},
		{"LONGBLOB", []string{"''", "REPEAT('x',70000)"}, nil},
		{"JSON", []string{`'{"b": 1, "a": [1, 2, {"c": "\\u00e9 é 😀"}]}'`, "'null'"}, nil},
		{"INET4", []string{"'1.2.3.4'", "'0.0.0.0'", "'255.255.255.255'", "'10.0.0.0'"}, []string{"1.2.3.4", "0.0.0.0", "255.255.255.255", "10.0.0.0"}},
		{"INET6", []string{"'::'", "'::1'", "'2001:db8::'", "'::ffff:1.2.3.4'", "'::1.2.3.4'", "'1:2:3:4:5:6:7:8'", "'1:0:0:2::'", "'fe80::1'"}, []string{"::", "::1"}},
		{"UUID", []string{"'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'123e4567-e89b-12d3-a456-426655440000'",
			"'6ba7b810-9dad-11d1-80b4-00c04fd430c8'", "'1ec9414c-232a-6b00-b3c8-9e6bdeced846'", "'017f22e2-79b0-7cc3-98c4-dc0c0c07398f'",
			"'f47ac10b-58cc-4372-a567-0e02b2c3d479'", "'886313e1-3b8a-5372-9b90-0c9aee199e5d'", "'00000000-0000-4000-8000-000000000000'",
			"'ff000000-0000-4000-0000-000000000001'", "'00000000-0000-4000-0000-8000aa00bb00'", "'80808080-8080-8080-8080-808080808080'",
			"'00000000-0000-8000-8000-000000000001'", "'01020304-0506-0708-090a-0b0c0d0e0f10'", "UUID()", "UUID()"},
			[]string{"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "123e4567-e89b-12d3-a456-426655440000"}},
		{"GEOMETRY", []string{"ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POLYGON((0 0,0 1,1 1,0 0))', 4326)", "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')"}, nil},
		{"POINT", []string{"ST_GeomFromText('POINT(-1.5 2e300)')", "ST_GeomFromText('POINT(1 2)', 4326)"}, nil},
		{"LINESTRING", []string{"ST_GeomFromText('LINESTRING(0 0,1 1,2 5)')"}, nil},
		{"MULTIPOLYGON", []string{"ST_GeomFromText('MULTIPOLYGON(((0 0,0 1,1 1,0 0)),((5 5,5 6,6 6,5 5)))')"}, nil},
		{"ENUM('a','b''c','d\\\\e','f\"g','h,i')", []string{"'a'", "'b\\'c'", "'d\\\\e'", "'f\"g'", "'h,i'"}, []string{"a", "b'c", "d\\e", "f\"g", "h,i"}},
		{"ENUM('','x')", []string{"''", "'x'"}, []string{"", "x"}},
		{bigEnum(), []string{"'l0'", "'l255'", "'l256'", "'l299'"}, []string{"l0", "l255", "l256", "l299"}},
		{"SET('a','b','c''d')", []string{"''", "'a'", "'b,a'", "'a,b,c\\'d'"}, []string{"", "a", "a,b", "a,b,c'd"}},
		{bigSet(), []string{"'m63'", "'m0,m63'", "18446744073709551615", "''"}, []string{"m63", "m0,m63"}},
	}
	for digits := range 7 {
		fraction := ""
		if digits > 0 {
			fraction = "." + "987654321"[:digits]
		}
		list = append(list,
			matrixCase{fmt.Sprintf("TIME(%d)", digits), []string{
				"'00:00:00'", "'-838:59:59" + zeros(digits) + "'", "'838:59:59" + zeros(digits) + "'", "'01:02:03" + fraction + "'",
				"'-01:02:03" + fraction + "'", "'-00:00:00" + fraction + "'", "'-00:00:01" + zeros(digits) + "'", "'-00:00:00" + last(digits) + "'", "'100:00:00'"},
				[]string{"00:00:00" + zeros(digits), "-838:59:59" + zeros(digits), "838:59:59" + zeros(digits), "01:02:03" + fraction, "-01:02:03" + fraction}},
			matrixCase{fmt.Sprintf("DATETIME(%d)", digits), []string{
				"'2026-11-23 01:02:03" + fraction + "'", "'0000-00-00 00:00:00'", "'9999-12-31 23:59:59" + fraction + "'", "'2026-00-00 00:00:00" + fraction + "'",
				"'0001-01-01 00:00:00" + last(digits) + "'", "'2026-02-31 23:00:00'"},
				[]string{"2026-11-23 01:02:03" + fraction, "0000-00-00 00:00:00" + zeros(digits)}},
			matrixCase{fmt.Sprintf("TIMESTAMP(%d) NULL", digits), []string{
				"'2026-11-23 01:02:03" + fraction + "'", "'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07" + fraction + "'",
				"'2026-03-29 02:30:00'"},
				[]string{"2026-11-23 01:02:03" + fraction, "0000-00-00 00:00:00" + zeros(digits), "1970-01-01 00:00:01" + zeros(digits)}},
		)
	}
	for _, charset := range []string{"latin1", "utf8mb3", "utf8mb4", "sjis", "cp932", "gbk", "gb2312", "big5", "ujis", "eucjpms", "euckr", "ucs2", "utf16", "utf16le", "utf32", "ascii", "cp1251", "koi8r", "tis620", "latin2", "greek", "hebrew"} {
		texts := []string{"", " ", "a  ", "quote ' \" ` \\ end", "nul\x00nul", "\n\r\x1a\t", "表ソ能十噂", "你好 縗", "é ÿ", "😀x", "\\", "'", "x\x00"}
		var values []string
		for _, text := range texts {
			values = append(values, fmt.Sprintf("CONVERT(_utf8mb4%s USING %s)", rows.Literal(text), charset))
		}
		for _, typ := range []string{"CHAR(25)", "CHAR(255)", "VARCHAR(25)", "VARCHAR(300)", "TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT"} {
			list = append(list, matrixCase{typ + " CHARACTER SET " + charset, values, nil})
		}
		labels := []string{"a", "b c", "it''s", "d\\\\e"}
		switch charset {
		case "sjis", "cp932", "ujis", "eucjpms", "utf8mb3", "utf8mb4", "ucs2", "utf16", "utf16le", "utf32":
			labels = append(labels, "表", "ソ")
		case "gbk", "big5", "gb2312", "euckr":
			labels = append(labels, "你", "好")
		case "latin1":
			labels = append(labels, "é", "ÿ")
		}
		list = append(list,
			matrixCase{"ENUM('" + strings.Join(labels, "','") + "') CHARACTER SET " + charset, indexes(len(labels)), nil},
			matrixCase{"SET('" + strings.Join(labels, "','") + "') CHARACTER SET " + charset, masks(len(labels)), nil})
	}
	return list
}

func zeros(digits int) string {
	if digits == 0 {
		return ""
	}
	return "." + strings.Repeat("0", digits)
}

// last is the smallest fraction.
func last(digits int) string {
	if digits == 0 {
		return ""
	}
	return "." + strings.Repeat("0", digits-1) + "1"
}

func bigEnum() string {
	labels := make([]string, 300)
	for i := range labels {
		labels[i] = fmt.Sprintf("'l%d'", i)
	}
	return "ENUM(" + strings.Join(labels, ",") + ")"
}

func bigSet() string {
	labels := make([]string, 64)
	for i := range labels {
		labels[i] = fmt.Sprintf("'m%d'", i)
	}
	return "SET(" + strings.Join(labels, ",") + ")"
}

func indexes(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprint(i + 1)
	}
	return list
}

func masks(n int) []string {
	list := []string{"0"}
	for i := range 1<<n - 1 {
		if i%5 == 0 || i == 1<<n-2 {
			list = append(list, fmt.Sprint(i+1))
		}
	}
	return list
}

// TestTypeMatrix is BARS.md §6: every type, its boundaries, every character set,
// read by SELECT and from the log with the same bytes, written back, compared by
// the server.
func TestTypeMatrix(t *testing.T) {
	t.Parallel()
	s := startServer(t, "", append([]string{"--max-allowed-packet=64M"}, logged...)...)
	conn := s.connect(t)
	run(t, conn, "SET NAMES utf8mb4", "CREATE DATABASE shop CHARACTER SET utf8mb4")
	cases := matrix()
	for i, c := range cases {
		for _, table := range []string{"read", "written"} {
			run(t, conn, fmt.Sprintf("CREATE TABLE shop.%s_%d (id INT PRIMARY KEY, v %s) CHARACTER SET utf8mb4", table, i, strings.TrimSuffix(c.typ, " NULL")+" NULL"))
		}
	}
	if err := rows.Begin(conn); err != nil {
		t.Fatal(err)
	}
	schema := readSchema(t, conn, "shop")
	from := position(t, conn)
	// An application's session: what it may write is wider than what we may.
	run(t, conn, "SET NAMES utf8mb4", "SET sql_mode='ALLOW_INVALID_DATES'")
	for i, c := range cases {
		values := []string{"(0,NULL)"}
		for n, v := range c.values {
			values = append(values, fmt.Sprintf("(%d,%s)", n+1, v))
		}
		run(t, conn, "BEGIN", fmt.Sprintf("INSERT INTO shop.read_%d VALUES %s", i, strings.Join(values, ",")),
			fmt.Sprintf("UPDATE shop.read_%d SET id=id+1000", i), fmt.Sprintf("DELETE FROM shop.read_%d WHERE id>2000", i), "COMMIT")
	}
	if err := rows.Begin(conn); err != nil {
		t.Fatal(err)
	}
	logged, err := follow(t, s, s.config(), from, schema)
	if err != nil {
		t.Fatal(err)
	}
	if len(logged) != len(cases) {
		t.Fatalf("%d transactions for %d cases", len(logged), len(cases))
	}
	from = position(t, conn)
	var written []map[string]rows.Row
	for i, c := range cases {
		table := schema.Table(rows.Name{Database: "shop", Table: fmt.Sprintf("read_%d", i)})
		if table.Unfit != "" {
			t.Fatalf("%s: %s", c.typ, table.Unfit)
		}
		selected := selectRows(t, conn, table)
		if want := len(c.values) + 1; len(selected) != want {
			t.Fatalf("%s: %d rows of %d", c.typ, len(selected), want)
		}
		checkForms(t, c, selected)
		checkLogged(t, c, logged[i], selected)
		writeBack(t, conn, c, table, i, selected)
		written = append(written, selected)
	}
	// What we wrote comes through the log as it went in.
	logged, err = follow(t, s, s.config(), from, schema)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, txn := range logged {
		for _, ch := range txn.Changes {
			var i int
			if _, err := fmt.Sscanf(ch.Table.Table, "written_%d", &i); err != nil {
				t.Fatal(err)
			}
			compareCells(t, cases[i].typ+" written", ch.After, written[i][string(ch.After[0])])
			n++
		}
	}
	if n == 0 {
		t.Error("nothing was compared")
	}
	t.Logf("%d types, %d values", len(cases), n)
}

func selectRows(t *testing.T, conn *client.Conn, table *rows.Table) map[string]rows.Row {
	t.Helper()
	selected := make(map[string]rows.Row)
	err := rows.Query(conn, "SELECT "+rows.SelectList(table)+" FROM "+table.SQL(), func(v [][]byte) error {
		row := make(rows.Row, len(v))
		for i := range v {
			cell, err := rows.ParseText(&table.Columns[i], v[i])
			if err != nil {
				return err
			}
			row[i] = bytes.Clone(cell)
			if cell != nil && row[i] == nil {
				row[i] = rows.Cell{}
			}
		}
		selected[string(row[0])] = row
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return selected
}

// checkForms holds the canonical forms that package rows describes.
func checkForms(t *testing.T, c matrixCase, selected map[string]rows.Row) {
	t.Helper()
	for n, want := range c.want {
		if got := string(selected[fmt.Sprint(n+1001)][1]); got != want {
			t.Errorf("%s: %s is %q, want %q", c.typ, c.values[n], got, want)
		}
	}
	if selected["1000"][1] != nil {
		t.Errorf("%s: NULL is %q", c.typ, selected["1000"][1])
	}
}

// checkLogged holds the images of the log against what was selected: the insert's
// and the update's, before and after.
func checkLogged(t *testing.T, c matrixCase, txn *rows.Txn, selected map[string]rows.Row) {
	t.Helper()
	if want := 2 * len(selected); len(txn.Changes) != want {
		t.Errorf("%s: %d changes, want %d", c.typ, len(txn.Changes), want)
	}
	encoded := rows.AppendTxn(nil, txn)
	decoded, err := rows.DecodeTxn(encoded)
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range decoded.Changes {
		for _, image := range []rows.Row{ch.Before, ch.After} {
			if image == nil {
				continue
			}
			id := string(image[0])
			if len(id) < 4 {
				id = fmt.Sprintf("1%03s", id)
			}
			compareCells(t, c.typ, image[1:], selected[id][1:])
		}
	}
}

func compareCells(t *testing.T, what string, got, want rows.Row) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d cells, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) || (got[i] == nil) != (want[i] == nil) {
			t.Errorf("%s: the log has %.80q, SELECT %.80q", what, got[i], want[i])
		}
	}
}

// writeBack writes the values into the second table; the server compares.
func writeBack(t *testing.T, conn *client.Conn, c matrixCase, table *rows.Table, i int, selected map[string]rows.Row) {
	t.Helper()
	insert := fmt.Appendf(nil, "INSERT INTO shop.written_%d VALUES ", i)
	first := true
	for _, row := range selected {
		if !first {
			insert = append(insert, ',')
		}
		first = false
		insert = append(insert, '(')
		insert = rows.AppendLiteral(insert, &table.Columns[0], row[0])
		insert = append(insert, ',')
		insert = rows.AppendLiteral(insert, &table.Columns[1], row[1])
		insert = append(insert, ')')
	}
	if _, err := conn.Execute(string(insert)); err != nil {
		t.Errorf("%s: %v: %.300q", c.typ, err, insert)
		return
	}
	var sums []string
	err := rows.Query(conn, fmt.Sprintf("CHECKSUM TABLE shop.read_%d, shop.written_%d", i, i), func(v [][]byte) error {
		sums = append(sums, string(v[1]))
		return nil
	})
	if err != nil || len(sums) != 2 || sums[0] != sums[1] {
		t.Errorf("%s: the server's checksums differ: %v %v", c.typ, sums, err)
	}
	same := ask(t, conn, fmt.Sprintf("SELECT COUNT(*) FROM shop.read_%d r JOIN shop.written_%d w USING (id)"+
		" WHERE r.v<=>w.v AND CAST(r.v AS BINARY)<=>CAST(w.v AS BINARY) AND LENGTH(r.v)<=>LENGTH(w.v)", i, i))
	if same != fmt.Sprint(len(selected)) {
		t.Errorf("%s: the server finds %s of %d rows the same", c.typ, same, len(selected))
	}
}
