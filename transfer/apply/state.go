package apply

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"imago.dev/imago/transfer/rows"
)

// stateDatabase holds the state of all data sets of a server.
const stateDatabase = "imago"

// What a set's description goes through before it can run.
const (
	phaseMaking = "making" // the description is written, copies may be missing
	phaseReady  = "ready"
)

// stateTables are the state. All columns are bytes: what is compared must be equal.
var stateTables = []string{
	"CREATE DATABASE IF NOT EXISTS imago CHARACTER SET binary",
	`CREATE TABLE IF NOT EXISTS imago.sets (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARBINARY(255) NOT NULL UNIQUE,
 run VARBINARY(255) NOT NULL, description LONGBLOB NOT NULL, source_schema LONGBLOB NOT NULL, phase VARBINARY(16) NOT NULL,
 begun LONGBLOB NOT NULL, overlap_until LONGBLOB NOT NULL) ENGINE=InnoDB`,
	// A writer's transaction shares the set's row here, and a new owner changes it:
	// it waits until whatever a dead process left running has ended.
	`CREATE TABLE IF NOT EXISTS imago.fences (id INT NOT NULL PRIMARY KEY, epoch BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS imago.positions (id INT NOT NULL PRIMARY KEY, gtid LONGBLOB NOT NULL, log_file VARBINARY(512) NOT NULL,
 log_at BIGINT UNSIGNED NOT NULL, committed BIGINT NOT NULL, overlap BOOL NOT NULL, transactions BIGINT UNSIGNED NOT NULL,
 changes BIGINT UNSIGNED NOT NULL, verified BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS imago.tables (id INT NOT NULL, tbl INT NOT NULL, name VARBINARY(255) NOT NULL, verified BOOL NOT NULL,
 compared BOOL NOT NULL, delta BIGINT NOT NULL, PRIMARY KEY (id, tbl)) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS imago.chunks (id INT NOT NULL, tbl INT NOT NULL, n BIGINT NOT NULL, lo LONGBLOB, hi LONGBLOB,
 rows_copied BIGINT UNSIGNED NOT NULL, bytes_copied BIGINT UNSIGNED NOT NULL, verified BOOL NOT NULL, compared BIGINT UNSIGNED NOT NULL,
 PRIMARY KEY (id, tbl, n)) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS imago.touched (id INT NOT NULL, tbl INT NOT NULL, k VARBINARY(64) NOT NULL, PRIMARY KEY (id, tbl, k)) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS imago.conversions (id INT NOT NULL, conv INT NOT NULL, phase INT NOT NULL, converted_to LONGBLOB,
 compared_to LONGBLOB, verified BOOL NOT NULL, objects BIGINT UNSIGNED NOT NULL, compared BIGINT UNSIGNED NOT NULL,
 PRIMARY KEY (id, conv)) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS imago.dirty (id INT NOT NULL, conv INT NOT NULL, k VARBINARY(64) NOT NULL, object LONGBLOB NOT NULL,
 PRIMARY KEY (id, conv, k)) ENGINE=InnoDB`,
	`CREATE TABLE IF NOT EXISTS imago.rejected (id INT NOT NULL, conv INT NOT NULL, k VARBINARY(64) NOT NULL, object LONGBLOB NOT NULL,
 reason LONGBLOB NOT NULL, PRIMARY KEY (id, conv, k)) ENGINE=InnoDB`,
}

// description is what must not change between a start and a resumption.
func (c *Config) description() string {
	fixed := *c
	fixed.Source, fixed.Target = Server{}, Server{}
	fixed.Start, fixed.OverlapUntil = rows.Position{}, rows.Position{}
	fixed.Workers, fixed.ChunkRows, fixed.BatchRows = 0, 0, 0
	b, err := json.Marshal(&fixed)
	if err != nil { // a Config has nothing that JSON lacks
		return err.Error()
	}
	return string(b)
}

// blob is a literal of bytes; nil is NULL.
func blob(b []byte) string { return string(appendBlob(nil, b)) }

func appendBlob(dst, b []byte) []byte {
	if b == nil {
		return append(dst, "NULL"...)
	}
	dst = append(dst, "X'"...)
	dst = hex.AppendEncode(dst, b)
	return append(dst, '\'')
}

// appendBound encodes a bound of a span for the state; nil has none.
func encodeBound(key []rows.Cell) []byte {
	if key == nil {
		return nil
	}
	return appendKey([]byte{}, key)
}

func decodeBound(b []byte) ([]rows.Cell, error) {
	if b == nil {
		return nil, nil
	}
	return decodeKey(b)
}

// numbers reads a row of numbers.
func numbers(v [][]byte, to ...*uint64) error {
	for i := range to {
		n, err := strconv.ParseUint(string(v[i]), 10, 64)
		if err != nil {
			return fmt.Errorf("the state has %q for a number", v[i])
		}
		*to[i] = n
	}
	return nil
}

// stripCreate takes from a table's definition what an exact copy must not have:
// foreign keys and checks, which would need other tables, and places on a disk.
func stripCreate(create string) string {
	lines := strings.Split(create, "\n")
	kept := lines[:0]
	for _, line := range lines {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "CONSTRAINT ") &&
			(strings.Contains(trimmed, " FOREIGN KEY (") || strings.Contains(trimmed, " CHECK (")) {
			continue
		}
		kept = append(kept, line)
	}
	for i := 0; i+1 < len(kept); i++ {
		if strings.HasPrefix(kept[i+1], ")") {
			kept[i] = strings.TrimSuffix(kept[i], ",")
		}
	}
	return strings.Join(kept, "\n")
}
