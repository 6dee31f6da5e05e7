package pipeline

import (
	"errors"
	"sync"
	"text/template"
	"text/template/parse"
)

// lineTemplate is a parsed template. It is safe for concurrent use: it is executed
// through instances, which have functions of their own.
type lineTemplate struct {
	tmpl      *template.Template
	instances sync.Pool // of *templateInstance
	// simple is what the template consists of if that is only text and fields.
	simple []templatePart
	// fields are the labels that it reads, as slots; all: it may read any label.
	fields []field
	all    bool
}

// templatePart is a text or the value of a label.
type templatePart struct {
	text string
	slot int // -1: text
}

var errRecursive = errors.New("a template must not execute itself")

// newTemplate parses text. Names of the labels that it reads go through slot.
func newTemplate(text string, slot func(string) int) (*lineTemplate, error) {
	tmpl, err := template.New("").Option("missingkey=zero").Funcs(new(funcEnv).functions()).Parse(text)
	if err != nil {
		return nil, err
	}
	t := &lineTemplate{tmpl: tmpl}
	a := analysis{t: t, slot: slot, seen: map[string]int{}, calls: map[string][]string{}}
	for _, d := range tmpl.Templates() {
		if d.Tree == nil || d.Tree.Root == nil {
			continue
		}
		a.in = d.Name()
		a.list(d.Tree.Root)
		// A template that is executed again and again is a loop, too.
		d.Tree.Root.Nodes = append([]parse.Node{loopNode()}, d.Tree.Root.Nodes...)
	}
	if a.recursive() {
		return nil, errRecursive
	}
	if !t.all && tmpl.Tree != nil && len(tmpl.Templates()) == 1 {
		t.simple = simpleParts(tmpl.Root.Nodes[1:], slot)
	}
	return t, nil
}

// loopNode is the action {{__loop__}}.
func loopNode() parse.Node {
	trees, err := parse.Parse("", "{{"+loopName+"}}", "", "", map[string]any{loopName: 0})
	if err != nil {
		panic(err)
	}
	return trees[""].Root.Nodes[0]
}

// simpleParts returns the parts if the nodes are only text and single fields, else nil.
func simpleParts(nodes []parse.Node, slot func(string) int) []templatePart {
	parts := []templatePart{}
	for _, n := range nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			parts = append(parts, templatePart{string(n.Text), -1})
		case *parse.ActionNode:
			if len(n.Pipe.Decl) > 0 || len(n.Pipe.Cmds) != 1 || len(n.Pipe.Cmds[0].Args) != 1 {
				return nil
			}
			f, ok := n.Pipe.Cmds[0].Args[0].(*parse.FieldNode)
			if !ok || len(f.Ident) != 1 {
				return nil
			}
			// In a longer template the error labels can be read as well.
			if len(nodes) > 1 && (f.Ident[0] == errorLabel || f.Ident[0] == errorDetailsLabel) {
				return nil
			}
			parts = append(parts, templatePart{"", slot(f.Ident[0])})
		default:
			return nil
		}
	}
	return parts
}

// analysis finds out what a template reads, puts a counter into its loops and
// looks for recursion.
type analysis struct {
	t     *lineTemplate
	slot  func(string) int
	in    string
	seen  map[string]int
	calls map[string][]string
}

func (a *analysis) list(l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		a.node(n)
	}
}

func (a *analysis) branch(b *parse.BranchNode) {
	a.node(b.Pipe)
	a.list(b.List)
	a.list(b.ElseList)
}

func (a *analysis) node(n parse.Node) {
	switch n := n.(type) {
	case *parse.ActionNode:
		a.node(n.Pipe)
	case *parse.IfNode:
		a.branch(&n.BranchNode)
	case *parse.WithNode:
		a.branch(&n.BranchNode)
	case *parse.RangeNode:
		a.branch(&n.BranchNode)
		n.List.Nodes = append([]parse.Node{loopNode()}, n.List.Nodes...)
	case *parse.TemplateNode:
		a.calls[a.in] = append(a.calls[a.in], n.Name)
		if n.Pipe != nil {
			a.node(n.Pipe)
		}
	case *parse.PipeNode:
		if n == nil {
			return
		}
		for _, c := range n.Cmds {
			for _, arg := range c.Args {
				a.node(arg)
			}
		}
	case *parse.ChainNode:
		a.node(n.Node)
	case *parse.FieldNode:
		a.field(n.Ident[0])
	case *parse.VariableNode:
		if n.Ident[0] == "$" {
			if len(n.Ident) > 1 {
				a.field(n.Ident[1])
			} else {
				a.t.all = true
			}
		}
	case *parse.DotNode:
		a.t.all = true
	}
}

func (a *analysis) field(name string) {
	if _, ok := a.seen[name]; !ok {
		a.seen[name] = a.slot(name)
		a.t.fields = append(a.t.fields, field{slot: a.seen[name], name: name})
	}
}

func (a *analysis) recursive() bool {
	state := map[string]int{} // 1: being visited, 2: done
	var visit func(string) bool
	visit = func(name string) bool {
		if state[name] > 0 {
			return state[name] == 1
		}
		state[name] = 1
		for _, c := range a.calls[name] {
			if visit(c) {
				return true
			}
		}
		state[name] = 2
		return false
	}
	for name := range a.calls {
		if visit(name) {
			return true
		}
	}
	return false
}

// render appends what the template makes of the row to the stream's arena. line
// is what __line__ gives.
func (t *lineTemplate) render(st *Stream, line []byte) ([]byte, error) {
	if t.simple != nil {
		a := &st.arena
		from := len(a.buf)
		for _, p := range t.simple {
			if p.slot < 0 {
				a.buf = append(a.buf, p.text...)
			} else if v, ok := st.set.get(st.set.slots[p.slot]); ok {
				a.buf = append(a.buf, v...)
			}
			if len(a.buf)-from > maxOutput {
				return nil, errTooLong
			}
		}
		return a.buf[from:len(a.buf):len(a.buf)], nil
	}
	w := arenaWriter{a: &st.arena, from: len(st.arena.buf)}
	if err := t.execute(st, line, &w); err != nil {
		st.arena.buf = st.arena.buf[:w.from]
		return nil, err
	}
	return st.arena.buf[w.from:len(st.arena.buf):len(st.arena.buf)], nil
}

// arenaWriter appends to the arena, up to maxOutput bytes.
type arenaWriter struct {
	a    *arena
	from int
}

func (w *arenaWriter) Write(b []byte) (int, error) {
	if len(w.a.buf)-w.from+len(b) > maxOutput {
		return 0, errTooLong
	}
	w.a.buf = append(w.a.buf, b...)
	return len(b), nil
}

// templateInstance is a template whose functions work on env. Copying a template
// and its functions costs much more than executing it, so instances are kept.
type templateInstance struct {
	tmpl *template.Template
	env  funcEnv
}

func (t *lineTemplate) execute(st *Stream, line []byte, w *arenaWriter) error {
	i, _ := t.instances.Get().(*templateInstance)
	if i == nil {
		i = &templateInstance{env: funcEnv{now: st.p.prog.now}}
		i.tmpl = template.Must(t.tmpl.Clone()).Funcs(i.env.functions())
	}
	i.env.begin(st.ts, line)
	err := i.tmpl.Execute(w, st.data(t))
	i.env.line = "" // which does not outlive the row
	t.instances.Put(i)
	return err
}

// data returns the labels that the template reads.
func (st *Stream) data(t *lineTemplate) map[string]string {
	if st.values == nil {
		st.values = map[string]string{}
	}
	clear(st.values)
	if t.all {
		st.labels = st.set.Append(st.labels[:0])
		for _, l := range st.labels {
			st.values[l.Name] = l.Value
		}
		return st.values
	}
	for _, f := range t.fields {
		if v, ok := st.set.Get(f.name); ok {
			st.values[f.name] = v
		}
	}
	return st.values
}
