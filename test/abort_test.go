package test

import (
	"strings"
	"testing"
	"time"
)

// slowPull keeps the clone reading from production for as long as a test looks.
const slowPull = "hold: 120s\n  pull_rate: 1MiB/s"

// TestAbort gives the upgrade up at every phase, after it ended well and after
// imago was killed in the middle. Clients use production all the time.
func TestAbort(t *testing.T) {
	h := theHost(t)
	before := h.world(t)
	u := h.startUsers(t, "12")
	t.Run("killed when the clone is defined", func(t *testing.T) { h.killedInClone(t, before, "app-old boots") })
	t.Run("killed while the clone is copied", func(t *testing.T) { h.killedInClone(t, before, "s left") })
	t.Run("from clone and convert", func(t *testing.T) { h.abortedInConvert(t, before) })
	t.Run("killed while clients are held", func(t *testing.T) { h.killedInHold(t, before, u) })
	u.allServed(t, "12")
}

func (h *host) killedInClone(t *testing.T, before, when string) {
	slow := h.variant(t, "hold: 120s", slowPull)
	r := h.start(t, slow, "clone")
	r.sees(t, when)
	h.do(t, slow, "abort").want(t, exitLocked)
	h.do(t, slow, "check").want(t, exitLocked)
	r.kill(t)
	if st := h.status(t); st.State != "cloning" || len(st.Resources) == 0 {
		t.Errorf("status after the kill: %+v", st)
	}
	h.do(t, slow, "abort").want(t, 0)
	h.wantState(t, "aborted")
	h.unchanged(t, before)
}

// stubborn is a conversion step that fails, then hangs, then does its work.
const stubborn = `convert:
  - name: the schema
    on: app
    run: |
      n=$(cat /root/tries 2>/dev/null || echo 0)
      echo $((n+1)) >/root/tries
      case $n in
      0) echo "schema 41 is unknown" >&2; exit 3 ;;
      1) echo "now it hangs"; sleep 600 ;;
      esac
`

// abortedInConvert makes one universe and tries a conversion that fails, one
// that is killed, and one that works; and goes on with a changed plan, which
// is refused.
func (h *host) abortedInConvert(t *testing.T, before string) {
	plan := h.variant(t, "convert:\n", stubborn)
	h.do(t, plan, "clone").want(t, 0)
	h.do(t, h.plan, "convert").want(t, exitRefused, "was changed", "abort")
	h.do(t, plan, "switch").want(t, exitRefused, "not possible now")
	r := h.do(t, plan, "convert").want(t, exitStep, "the schema")
	if !strings.Contains(r.out+r.errOut, "schema 41 is unknown") {
		t.Errorf("the failed step's output is not shown:\n%s\n%s", r.out, r.errOut)
	}
	h.wantState(t, "cloned")
	hanging := h.start(t, plan, "convert")
	hanging.sees(t, "now it hangs")
	hanging.kill(t)
	h.do(t, plan, "convert").want(t, 0)
	h.wantState(t, "converted")
	h.do(t, plan, "abort").want(t, 0)
	h.unchanged(t, before)
}

// killedInHold goes as far as the hold of the switch. Its clients wait when
// imago is killed, and must then be served by the old version.
func (h *host) killedInHold(t *testing.T, before string, u *users) {
	h.do(t, h.plan, "upgrade").want(t, 0)
	h.wantState(t, "tested")
	r := h.start(t, h.plan, "switch")
	r.sees(t, "view of small-app taken")
	r.kill(t)
	began := time.Now()
	u.reach(t, "12", 2)
	t.Logf("all clients were answered %.1f s after the kill", time.Since(began).Seconds())
	if st := h.status(t); st.State != "switching" || st.ClientsReach != "old" {
		t.Errorf("status after the kill: state %s, clients reach %s", st.State, st.ClientsReach)
	}
	h.do(t, h.plan, "abort").want(t, 0)
	h.unchanged(t, before)
}
