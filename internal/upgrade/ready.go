package upgrade

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/errgroup"

	"imago.dev/imago/guestagent"
	"imago.dev/imago/hypervisor"
	"imago.dev/imago/internal/plan"
	"imago.dev/imago/netswitch"
)

// awaitReady waits for the plan's conditions of a VM, in their order. The login
// that it used goes to keep, if that is not nil.
func (e *Engine) awaitReady(ctx context.Context, u *netswitch.Universe, vm plan.VM, dom *hypervisor.Domain, keep *sessions) error {
	conds := vm.Ready
	if len(conds) == 0 && len(vm.HostKeys) > 0 {
		conds = []plan.Readiness{{SSH: true, Timeout: plan.Duration{Duration: 3 * time.Minute}}}
	}
	s := &lateSession{open: func(ctx context.Context) (*guestagent.Session, error) { return e.connect(ctx, u, vm) }}
	defer s.close()
	var list []hypervisor.Condition
	for _, c := range conds {
		cond := e.condition(u, vm, c, s)
		cond.Fatal, cond.Liveness = hostKeyWrong, dom.Alive
		list = append(list, cond)
	}
	err := hypervisor.WaitReady(ctx, vm.Name, list, func(p hypervisor.Progress) { e.log.Debug("waiting", "vm", vm.Name, "what", p.What) })
	if err == nil && keep != nil && s.session != nil {
		keep.put(vm.Name, s.session)
		s.session = nil
	}
	return err
}

func (e *Engine) condition(u *netswitch.Universe, vm plan.VM, r plan.Readiness, s *lateSession) hypervisor.Condition {
	c := hypervisor.Condition{Hint: r.Hint, Timeout: r.Timeout.Duration}
	if c.Hint == "" {
		c.Hint = fmt.Sprintf("the guest's console is kept as %s.console.log in %s", vm.Name, e.n.reportDir())
	}
	switch {
	case r.SSH:
		c.What = "a login over SSH"
		c.Check = func(ctx context.Context) error { _, err := s.get(ctx); return err }
	case r.Run != "":
		c.What = "the command " + r.Run
		c.Check = func(ctx context.Context) error { return s.run(ctx, r.Run) }
	case r.TCP != 0:
		addr := addrPort(vm.Address, uint16(r.TCP)).String()
		c.What = "a connection to " + addr
		c.Check = func(ctx context.Context) error {
			conn, err := u.Dial(ctx, "tcp", addr)
			if err != nil {
				return err
			}
			return conn.Close()
		}
	case r.HTTP != nil:
		c.What = "an answer from " + r.HTTP.URL
		c.Check = func(ctx context.Context) error { return checkHTTP(ctx, e.httpClient(u), r.HTTP) }
	}
	return c
}

// lateSession connects at its first use and again after a loss: while a guest
// boots, connections come and go.
type lateSession struct {
	open    func(context.Context) (*guestagent.Session, error)
	session *guestagent.Session
}

func (l *lateSession) get(ctx context.Context) (*guestagent.Session, error) {
	if l.session != nil && l.session.Err() == nil {
		return l.session, nil
	}
	l.close()
	s, err := l.open(ctx)
	l.session = s
	return s, err
}

func (l *lateSession) run(ctx context.Context, script string) error {
	s, err := l.get(ctx)
	if err != nil {
		return err
	}
	_, err = s.Run(ctx, guestagent.Step{Name: "readiness", Script: script, Timeout: 30 * time.Second}, nil)
	return err
}

func (l *lateSession) close() {
	if l.session != nil {
		_ = l.session.Close()
		l.session = nil
	}
}

// connect logs in to a VM of the universe and brings the agent there.
func (e *Engine) connect(ctx context.Context, u *netswitch.Universe, vm plan.VM) (*guestagent.Session, error) {
	keys := make([]ssh.PublicKey, 0, len(vm.HostKeys))
	for _, k := range vm.HostKeys {
		key, err := k.PublicKey()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	s, err := guestagent.Connect(ctx, guestagent.Target{
		Name: vm.Name, Addr: addrPort(vm.Address, 22).String(), User: e.plan.SSH.User,
		Signer: e.signer, HostKeys: keys, Dial: u.Dial,
	}, e.log)
	if err != nil {
		return nil, err
	}
	if err := s.Deploy(ctx, e.opts.Agent); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// sessions are the logins of one phase, opened when first needed.
type sessions struct {
	e    *Engine
	u    *netswitch.Universe
	mu   sync.Mutex
	open map[string]*guestagent.Session
}

func (e *Engine) sessions(u *netswitch.Universe) *sessions {
	return &sessions{e: e, u: u, open: map[string]*guestagent.Session{}}
}

// put adds a session that was opened elsewhere.
func (s *sessions) put(vm string, session *guestagent.Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[vm] = session
}

// openServing logs in to the VMs that stay, side by side, so that no login falls
// into the time for which clients are held.
func (s *sessions) openServing(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, vm := range s.e.plan.Universe.VMs {
		if vm.Role == plan.RoleSource || len(vm.HostKeys) == 0 {
			continue
		}
		g.Go(func() error {
			session, err := s.e.connect(ctx, s.u, vm)
			if err == nil {
				s.put(vm.Name, session)
			}
			return err
		})
	}
	return g.Wait()
}

// to gives the session of a VM.
func (s *sessions) to(ctx context.Context, vm string) (*guestagent.Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.open[vm]; got != nil && got.Err() == nil {
		return got, nil
	}
	got, err := s.e.connect(ctx, s.u, s.e.vm(vm))
	if err != nil {
		return nil, err
	}
	s.open[vm] = got
	return got, nil
}

// forget drops the sessions of VMs that are about to go.
func (s *sessions) forget(vm string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if got := s.open[vm]; got != nil {
		_ = got.Close()
		delete(s.open, vm)
	}
}

func (s *sessions) close() {
	for vm := range s.open {
		s.forget(vm)
	}
}

// httpClient asks from inside the universe, through its gateway namespace.
func (e *Engine) httpClient(u *netswitch.Universe) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{DialContext: u.Dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
