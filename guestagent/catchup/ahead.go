package catchup

// aheadDirs is how many directories of the source are read before the walk
// comes to them. A view's disk that was just mounted answers slowly, but many
// questions at a time.
const aheadDirs = 12

// ahead reads directories of the source beside the walk.
type ahead struct{ free chan struct{} }

// listing is a directory's entries with their attributes, or what will be that.
type listing struct {
	fd   int
	all  []listed
	err  error
	done chan struct{}
}

func newAhead() *ahead { return &ahead{free: make(chan struct{}, aheadDirs)} }

// begin starts to read a directory below another one that stays open until the
// listing is there. It returns nil where enough is read ahead already.
func (a *ahead) begin(parent int, name string) *listing {
	select {
	case a.free <- struct{}{}:
	default:
		return nil
	}
	l := &listing{fd: -1, done: make(chan struct{})}
	go func() { // whoever takes the listing or drops it waits for it
		defer close(l.done)
		l.read(parent, name)
		<-a.free
	}()
	return l
}

// read opens the directory and looks at all that is in it.
func (l *listing) read(parent int, name string) {
	if l.fd, l.err = openDir(parent, name); l.err != nil {
		return
	}
	if l.all, l.err = names(l.fd); l.err == nil {
		l.err = stats(l.fd, l.all)
	}
}

// aheadOf keeps what was begun for the subdirectories of one directory.
type aheadOf struct {
	a      *ahead
	parent int
	dirs   []string // in the walk's order
	begun  map[string]*listing
}

func (c *run) aheadOf(parent int, list []listed) *aheadOf {
	o := &aheadOf{a: c.ahead, parent: parent, begun: map[string]*listing{}}
	for i := range list {
		if e := &list[i]; !e.gone && e.st.isDir() && (parent != c.root.src || e.name != stagingDir) {
			o.dirs = append(o.dirs, e.name)
		}
	}
	o.more()
	return o
}

func (o *aheadOf) more() {
	for len(o.dirs) > 0 {
		l := o.a.begin(o.parent, o.dirs[0])
		if l == nil {
			return
		}
		o.begun[o.dirs[0]], o.dirs = l, o.dirs[1:]
	}
}

// take returns the listing of a subdirectory, whose descriptor is then the
// caller's. The walk asks for each of them once, in order.
func (o *aheadOf) take(name string) *listing {
	l, ok := o.begun[name]
	if ok {
		delete(o.begun, name)
		<-l.done
		o.more()
		return l
	}
	if len(o.dirs) > 0 && o.dirs[0] == name {
		o.dirs = o.dirs[1:]
	}
	l = &listing{fd: -1}
	l.read(o.parent, name)
	return l
}

// drop waits for what was begun and is not wanted any more.
func (o *aheadOf) drop() {
	for _, l := range o.begun {
		<-l.done
		closeFD(l.fd)
	}
	o.begun, o.dirs = nil, nil
}
