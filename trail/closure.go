package trail

// closure is the part of a graph that belongs to one story.
type closure struct {
	*graph
	value   string // of the key; "" if the start has none
	first   int    // vertex of the start
	member  []bool // spans and phantoms of the story
	leaf    []bool // batches at its border
	own     []int  // by batch: the spans of the story that it links
	last    []int  // by batch: the last of them
	joined  map[batchValue]bool
	counted []bool
	started []bool
	held    []bool // hubs that show no consequences
	frozen  []bool // hubs whose causes were followed
	caused  []bool // reached from a cause
	queue   []int
}

// batchValue is what a batch at the border has of one value of the key.
type batchValue struct {
	batch int
	value string
}

// closure returns the story that contains the vertices.
func (g *graph) closure(value string, start ...int) *closure {
	n := len(g.vertices)
	c := &closure{graph: g, value: value, member: make([]bool, n), leaf: make([]bool, n), own: make([]int, n),
		last: make([]int, n), joined: map[batchValue]bool{}, counted: make([]bool, n), started: make([]bool, n), held: make([]bool, n), frozen: make([]bool, n), caused: make([]bool, n)}
	for k, i := range start {
		if k == 0 {
			c.first = i
		}
		c.started[i] = true
		c.add(i)
	}
	// The causes of hubs come last: until then, a hub that is also reached from one of its
	// causes shows all its consequences.
	for c.run(); ; c.run() {
		var hubs []int
		for i, held := range c.held {
			if held && !c.frozen[i] {
				c.frozen[i] = true
				hubs = append(hubs, i)
			}
		}
		if len(hubs) == 0 {
			return c
		}
		for _, hub := range hubs {
			for _, j := range g.vertices[hub].joints {
				if j.cause {
					c.follow(hub, j)
				}
			}
		}
	}
}

func (c *closure) add(i int) {
	if !c.member[i] {
		c.member[i], c.leaf[i] = true, false
		c.queue = append(c.queue, i)
	}
}

func (c *closure) run() {
	for len(c.queue) > 0 {
		i := c.queue[0]
		c.queue = c.queue[1:]
		c.count(i)
		if c.held[i] {
			continue
		}
		for _, j := range c.vertices[i].joints {
			c.follow(i, j)
		}
	}
}

// count counts a new member for the batches that link it.
func (c *closure) count(i int) {
	if c.counted[i] {
		return
	}
	c.counted[i] = true
	for _, j := range c.vertices[i].joints {
		if b := j.to; !j.cause && j.link != nil && !j.cut && c.vertices[b].batch && c.last[b] != i+1 {
			c.last[b] = i + 1 // it may link the span twice
			c.caused[b] = true
			if c.own[b]++; c.leaf[b] && c.complete(b) {
				c.add(b)
			} else if c.member[b] && c.held[b] && !c.frozen[b] {
				c.held[b] = false
				c.queue = append(c.queue, b)
			}
		}
	}
}

// complete reports whether all links of a batch lie in the story. Without links, nothing
// is known of its messages.
func (c *closure) complete(batch int) bool {
	v := &c.vertices[batch]
	return c.own[batch] == v.targets && v.targets > 0 && !v.lacking
}

// foreign reports that a value belongs to another story.
func (c *closure) foreign(value string) bool {
	return c.value != "" && value != "" && value != c.value
}

// follow adds the other end of a joint of a member, if it belongs to the story.
func (c *closure) follow(from int, j joint) {
	to := &c.vertices[j.to]
	if j.cut || c.foreign(j.value) || c.foreign(to.value) {
		return
	}
	switch hub := j.cause && to.effects > hubConsequences; {
	case c.member[j.to]:
		if c.held[j.to] && !c.frozen[j.to] && !j.cause {
			c.held[j.to] = false // it is reached from a cause, too
			c.queue = append(c.queue, j.to)
		}
	case to.batch:
		c.touch(from, j, hub)
	default:
		c.held[j.to] = hub
		c.add(j.to)
	}
}

// touch decides whether a batch joins the story, or is at its border.
func (c *closure) touch(from int, j joint, hub bool) {
	i := j.to
	c.caused[i] = c.caused[i] || !j.cause
	c.leaf[i] = true
	// Its links decide, wherever the story reaches it.
	if c.complete(i) || (j.cause || j.link == nil) && !c.boundary(i) || j.value != "" && j.value == c.vertices[i].value {
		c.held[i] = hub && !c.caused[i]
		c.add(i)
		return
	}
	if part := (batchValue{i, j.value}); j.value != "" && !c.joined[part] {
		// The messages with this value, and the children, meet at the border.
		c.joined[part] = true
		for _, other := range c.vertices[i].joints {
			if other.value == j.value && other.to != from {
				c.follow(i, other)
			}
		}
	}
}

// distances returns the least number of joints from the start to each vertex, -1 for those
// outside of the story.
func (c *closure) distances() []int {
	distance := make([]int, len(c.vertices))
	var queue []int
	for i := range distance {
		distance[i] = -1
		if c.started[i] {
			distance[i] = 0
			queue = append(queue, i)
		}
	}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, j := range c.vertices[queue[0]].joints {
			if !j.cut && distance[j.to] < 0 && (c.member[j.to] || c.leaf[j.to]) {
				distance[j.to] = distance[queue[0]] + 1
				queue = append(queue, j.to)
			}
		}
	}
	return distance
}
