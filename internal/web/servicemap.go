package web

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/trail"
)

// ServiceMap is the layout of the events between services: the first service on the left,
// each other one in the column of its number of steps from there.
type ServiceMap struct {
	Width, Height int
	Nodes         []MapNode
	Ways          []MapWay
	Flows         []trail.EventsFlow
}

// MapNode is the drawing of a service.
type MapNode struct {
	trail.Service
	Class string
	X, Y  int // the upper left corner
}

// MapWay is the arrow for all events from one service to another.
type MapWay struct {
	From, To string
	Class    string
	Path     string // SVG path data
	Title    string
	Links    int
}

// Sizes, in the picture's own units.
const (
	mapNodeWidth, mapNodeHeight = 132, 46
	mapColumn, mapRow           = 244, 78
	mapMargin                   = 48
)

// NewServiceMap returns the layout of a service map.
func NewServiceMap(m trail.ServiceMap) *ServiceMap {
	laid := &ServiceMap{Flows: m.Flows}
	columns := columns(m)
	rows := map[int]int{}
	most := 1
	for _, s := range m.Services {
		rows[columns[s.Name]]++
		most = max(most, rows[columns[s.Name]])
	}
	at := map[string]MapNode{}
	filled := map[int]int{}
	for _, s := range m.Services {
		c := columns[s.Name]
		// Columns are centred vertically.
		y := mapMargin + (most-rows[c])*mapRow/2 + filled[c]*mapRow
		filled[c]++
		n := MapNode{s, Class(s.Name), mapMargin/2 + c*mapColumn, y}
		at[s.Name] = n
		laid.Nodes = append(laid.Nodes, n)
		laid.Width = max(laid.Width, n.X+mapNodeWidth+mapMargin/2)
	}
	laid.Height = 2*mapMargin + most*mapRow

	ways := map[[2]string]*MapWay{}
	var order [][2]string
	what := map[[2]string][]string{}
	for _, f := range m.Flows {
		key := [2]string{f.From, f.To}
		if _, ok := at[f.From]; !ok {
			continue
		}
		if _, ok := at[f.To]; !ok {
			continue
		}
		if ways[key] == nil {
			ways[key] = &MapWay{From: f.From, To: f.To, Class: Class(f.From)}
			order = append(order, key)
		}
		ways[key].Links += f.Links
		if text := cmp.Or(f.EventType, f.Relationship); !slices.Contains(what[key], text) {
			what[key] = append(what[key], text)
		}
	}
	// Arrows end beside each other, sorted by the height of their start.
	in := map[string][]string{}
	for _, key := range order {
		in[key[1]] = append(in[key[1]], key[0])
	}
	port := func(key [2]string) int {
		from := in[key[1]]
		slices.SortStableFunc(from, func(a, b string) int { return cmp.Compare(at[a].Y, at[b].Y) })
		return 7 * (2*slices.Index(from, key[0]) - len(from) + 1) / 2
	}
	for _, key := range order {
		way := ways[key]
		way.Title = fmt.Sprintf("%s to %s: %s (%d links)", way.From, way.To, strings.Join(what[key], ", "), way.Links)
		from, to := at[way.From], at[way.To]
		switch back := columns[way.To] - columns[way.From]; {
		case way.From == way.To:
			x, y := from.X+mapNodeWidth/2, from.Y
			way.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x-16, y, x-30, y-34, x+30, y-34, x+16, y-2)
		case back > 0:
			x1, y1 := from.X+mapNodeWidth, from.Y+mapNodeHeight/2
			x2, y2 := to.X-2, to.Y+mapNodeHeight/2+port(key)
			bend, dip := (x2-x1)/2, 0
			if back > 1 && max(y1-y2, y2-y1) < mapRow/2 && most > 1 { // around the services in between
				bend, dip = (x2-x1)/4, most*mapRow/2*4/3+16*back
				laid.Height = max(laid.Height, y1+dip*3/4+mapMargin/2)
			}
			way.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1+bend, y1+dip, x2-bend, y2+dip, x2, y2)
		case back == 0:
			x, y1, y2 := from.X, from.Y+mapNodeHeight/2, to.Y+mapNodeHeight/2+port(key)
			way.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x, y1, x-40, y1, x-40, y2, x-2, y2)
		default: // back to the left
			x1, y1 := from.X, from.Y+mapNodeHeight/2+12
			x2, y2 := to.X+mapNodeWidth+2, to.Y+mapNodeHeight/2+12
			bend := (x1 - x2) / 2
			way.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1-bend, y1, x2+bend, y2, x2, y2)
			way.Class += " back"
		}
		laid.Ways = append(laid.Ways, *way)
	}
	return laid
}

// steps returns the number of events from the service where orders begin to each other
// service. The first service's later events, such as orders.cancelled, are no short cut.
func steps(m trail.ServiceMap) map[string]int {
	at := map[string]int{}
	if len(m.Services) == 0 {
		return at
	}
	first, incoming := "", map[string]int{}
	for _, f := range m.Flows {
		if f.From != f.To {
			incoming[f.To]++
		}
		if f.EventType == string(event.OrderCreated) {
			first = f.From
		}
	}
	if first == "" {
		first = slices.MinFunc(m.Services, func(a, b trail.Service) int { return cmp.Compare(incoming[a.Name], incoming[b.Name]) }).Name
	}
	at[first] = 0
	queue := []string{first}
	reach := func(follow func(trail.EventsFlow) bool) {
		for ; len(queue) > 0; queue = queue[1:] {
			for _, f := range m.Flows {
				if _, seen := at[f.To]; f.From == queue[0] && !seen && follow(f) {
					at[f.To] = at[f.From] + 1
					queue = append(queue, f.To)
				}
			}
		}
	}
	reach(func(f trail.EventsFlow) bool { return f.From != first || f.EventType == string(event.OrderCreated) })
	queue = []string{first}
	reach(func(trail.EventsFlow) bool { return true })
	last := 0
	for _, n := range at {
		last = max(last, n)
	}
	for _, s := range m.Services {
		if _, ok := at[s.Name]; !ok {
			at[s.Name] = last + 1
		}
	}
	return at
}

// columns returns the column of each service: its number of steps, or the last column for
// a service that sends nothing.
func columns(m trail.ServiceMap) map[string]int {
	at := steps(m)
	sends := map[string]bool{}
	for _, f := range m.Flows {
		sends[f.From] = true
	}
	last := 0
	for name, n := range at {
		if sends[name] {
			last = max(last, n)
		}
	}
	for name := range at {
		if !sends[name] && len(at) > 1 {
			at[name] = last + 1
		}
	}
	return at
}
