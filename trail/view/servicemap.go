package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"example.org/ordertrail/trail"
)

// ServiceMap is the layout of the events between services: the first service on the left,
// each other one in the column of its number of steps from there.
type ServiceMap struct {
	Width, Height int
	Nodes         []MapNode
	Ways          []MapWay
	Flows         []trail.EventsFlow
	// The numbers of those that are left out, because there are many.
	MoreServices, MoreFlows int
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
	events   []string // types
}

// Sizes, in the picture's own units.
const (
	mapNodeWidth, mapNodeHeight = 148, 46
	mapColumn, mapRow           = 256, 78
	mapMargin                   = 48
)

// NewServiceMap returns the layout of a service map. For class see [Options].
func NewServiceMap(m trail.ServiceMap, class func(service string) string) *ServiceMap {
	laid := &ServiceMap{}
	m, laid.MoreServices, laid.MoreFlows = fewest(m)
	laid.Flows = m.Flows
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
		n := MapNode{s, class(s.Name), mapMargin*3/4 + c*mapColumn, y} // left of it are arrows within the column
		at[s.Name] = n
		laid.Nodes = append(laid.Nodes, n)
		laid.Width = max(laid.Width, n.X+mapNodeWidth+mapMargin/2)
	}
	laid.Height = 2*mapMargin + most*mapRow

	// Flows are sorted: those of one way follow each other.
	for _, f := range m.Flows {
		if n := len(laid.Ways); n == 0 || laid.Ways[n-1].From != f.From || laid.Ways[n-1].To != f.To {
			laid.Ways = append(laid.Ways, MapWay{From: f.From, To: f.To, Class: class(f.From)})
		}
		way := &laid.Ways[len(laid.Ways)-1]
		way.Links += f.Links
		if !slices.Contains(way.events, f.EventType) {
			way.events = append(way.events, f.EventType)
		}
	}
	// Arrows end beside each other, sorted by the height of their start.
	in := map[string][]string{}
	for _, way := range laid.Ways {
		in[way.To] = append(in[way.To], way.From)
	}
	for _, from := range in {
		slices.SortStableFunc(from, func(a, b string) int { return cmp.Compare(at[a].Y, at[b].Y) })
	}
	for i := range laid.Ways {
		way := &laid.Ways[i]
		way.Title = fmt.Sprintf("%s to %s: %s (%s)", short(way.From), short(way.To), cut(strings.Join(way.events, ", "), messageShown), trail.Counted(way.Links, "link"))
		from, to := at[way.From], at[way.To]
		port := 7 * (2*slices.Index(in[way.To], way.From) - len(in[way.To]) + 1) / 2
		switch back := columns[way.To] - columns[way.From]; {
		case way.From == way.To:
			x, y := from.X+mapNodeWidth/2, from.Y
			way.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x-16, y, x-30, y-34, x+30, y-34, x+16, y-2)
		case back > 0:
			x1, y1 := from.X+mapNodeWidth, from.Y+mapNodeHeight/2
			x2, y2 := to.X-2, to.Y+mapNodeHeight/2+port
			bend, dip := (x2-x1)/2, 0
			if back > 1 && max(y1-y2, y2-y1) < mapRow/2 && most > 1 { // around the services in between
				bend, dip = (x2-x1)/4, most*mapRow/2*4/3+16*back
				laid.Height = max(laid.Height, y1+dip*3/4+mapMargin/2)
			}
			way.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1+bend, y1+dip, x2-bend, y2+dip, x2, y2)
		case back == 0:
			x, y1, y2 := from.X, from.Y+mapNodeHeight/2, to.Y+mapNodeHeight/2+port
			way.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x, y1, x-40, y1, x-40, y2, x-2, y2)
		default: // back to the left
			x1, y1 := from.X, from.Y+mapNodeHeight/2+12
			x2, y2 := to.X+mapNodeWidth+2, to.Y+mapNodeHeight/2+12
			bend := (x1 - x2) / 2
			way.Path = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, y1, x1-bend, y1, x2+bend, y2, x2, y2)
			way.Class += " back"
		}
	}
	return laid
}

// fewest returns the part of a map that fits a page, which has the services that the fewest
// steps lead to, and the numbers of the other services and flows.
func fewest(m trail.ServiceMap) (part trail.ServiceMap, services, flows int) {
	if len(m.Services) <= servicesShown && len(m.Flows) <= flowsShown {
		return m, 0, 0
	}
	part.Services = slices.Clone(m.Services)
	slices.SortStableFunc(part.Services, func(a, b trail.Service) int { return cmp.Compare(a.Step, b.Step) })
	part.Services = part.Services[:min(len(m.Services), servicesShown)]
	shown := map[string]bool{}
	for _, s := range part.Services {
		shown[s.Name] = true
	}
	for _, f := range m.Flows {
		if shown[f.From] && shown[f.To] && len(part.Flows) < flowsShown {
			part.Flows = append(part.Flows, f)
		}
	}
	return part, len(m.Services) - len(part.Services), len(m.Flows) - len(part.Flows)
}

// columns returns the column of each service: its number of steps, or the last column for
// a service that sends nothing. A service that also starts stories of its own is at the
// right of the services that only start them.
func columns(m trail.ServiceMap) map[string]int {
	at := map[string]int{}
	for _, s := range m.Services {
		at[s.Name] = s.Step
	}
	sends, receives := map[string]bool{}, map[string]bool{}
	for _, f := range m.Flows {
		sends[f.From] = true
		receives[f.To] = receives[f.To] || f.From != f.To
	}
	for _, f := range m.Flows {
		if !receives[f.From] && receives[f.To] {
			at[f.To] = max(at[f.To], at[f.From]+1)
		}
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
