package apply

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"imago.dev/imago/transfer/rows"
)

// Remove takes a data set's state and its copies of old tables from the target,
// when the new version has taken over or the run is given up. The new version's
// own tables stay as they are. The run must be the state's; nothing to remove is
// no error.
func Remove(ctx context.Context, cfg Config) error {
	target, err := dial(ctx, cfg.Target, writing(cfg.To)...)
	if err != nil {
		return err
	}
	defer target.close()
	n, err := target.exec("SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA='" + stateDatabase + "' AND TABLE_NAME='sets'")
	if err != nil || n == 0 {
		return err
	}
	e := &Engine{cfg: cfg, isShadow: map[string]bool{}}
	e.shadow = "imago_old_" + cfg.To
	found := false
	_, err = target.query("SELECT id, run FROM imago.sets WHERE name="+blob([]byte(cfg.Set)), func(v [][]byte) error {
		found = true
		if string(v[1]) != cfg.Run {
			return fmt.Errorf("%w: it is of run %q, this is run %q", ErrOtherRun, v[1], cfg.Run)
		}
		var err error
		e.id, err = strconv.Atoi(string(v[0]))
		return err
	})
	if err == nil && found {
		err = e.remove(target)
	}
	if err != nil {
		return fmt.Errorf("remove the state of data set %q: %w", cfg.Set, err)
	}
	return nil
}

func (e *Engine) remove(target *conn) error {
	var faults []error
	do := func(sql string) {
		if _, err := target.exec(sql); err != nil {
			faults = append(faults, err)
		}
	}
	do("DROP DATABASE IF EXISTS " + rows.QuoteName(e.shadow))
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	for _, table := range []string{"touched", "chunks", "dirty", "rejected", "conversions", "tables", "positions", "fences", "sets"} {
		do(fmt.Sprintf("DELETE FROM imago.%s WHERE id=%d", table, e.id))
	}
	return errors.Join(faults...)
}
