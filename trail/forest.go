package trail

// forest knows which of the trees that parents make contains a span.
type forest struct {
	above   map[Ref]Ref // a span above each one that is no root
	numbers map[Ref][2]int
}

// newForest returns the trees of some parents. Of a circle of parents, the last span is the
// root.
func newForest(nodes []*Node, parents map[Ref]Ref) *forest {
	f := &forest{above: map[Ref]Ref{}}
	for _, n := range nodes {
		if parent, has := parents[n.Ref]; has && f.root(parent) != n.Ref {
			f.attach(n.Ref, parent)
		}
	}
	return f
}

// root returns the root of the tree that contains a span. The way there gets shorter.
func (f *forest) root(r Ref) Ref {
	for {
		up, has := f.above[r]
		if !has {
			return r
		}
		if next, has := f.above[up]; has {
			f.above[r] = next
		}
		r = up
	}
}

func (f *forest) attach(root, parent Ref) { f.above[root] = f.root(parent) }

// number numbers the spans in tree order: those below a span have the numbers from its first
// to its last.
func (f *forest) number(nodes []*Node, parents map[Ref]Ref) {
	children := map[Ref][]Ref{}
	for _, n := range nodes {
		if f.root(n.Ref) != n.Ref {
			children[parents[n.Ref]] = append(children[parents[n.Ref]], n.Ref)
		}
	}
	f.numbers = map[Ref][2]int{}
	next := 0
	var visit func(Ref)
	visit = func(r Ref) {
		first := next
		next++
		for _, child := range children[r] {
			visit(child)
		}
		f.numbers[r] = [2]int{first, next - 1}
	}
	for _, n := range nodes {
		if f.root(n.Ref) == n.Ref {
			visit(n.Ref)
		}
	}
}

// leads reports whether a span is another one, or above it.
func (f *forest) leads(from, to Ref) bool {
	a, b := f.numbers[from], f.numbers[to]
	return a[0] <= b[0] && b[1] <= a[1]
}
