package trail

import (
	"cmp"
	"slices"

	"example.org/ordertrail/internal/event"
)

// Map computes who sends what to whom from the links of spans of any number of
// orders.
func Map(spans []Span) ServiceMap {
	known := make(map[Ref]*Span, len(spans))
	for i := range spans {
		known[spans[i].Ref] = &spans[i]
	}
	m := mapping{services: map[string]*Service{}, flows: map[EventsFlow]int{}}
	for _, span := range known {
		m.span(span)
		for _, l := range span.Links {
			m.link(span, l, known)
		}
	}
	return m.done()
}

type mapping struct {
	services map[string]*Service
	flows    map[EventsFlow]int // with Links 0
}

func (m *mapping) span(span *Span) {
	s := m.service(span.Service)
	s.Spans++
	if span.Status == StatusError {
		s.Failed++
	}
}

func (m *mapping) service(name string) *Service {
	if m.services[name] == nil {
		m.services[name] = &Service{Name: name}
	}
	return m.services[name]
}

// link counts a link for the flow that it is part of. Who published an event is also
// known if its span is not.
func (m *mapping) link(span *Span, l Link, known map[Ref]*Span) {
	f := EventsFlow{To: span.Service, EventType: l.Attributes.Text(linkEventKey), Relationship: l.Attributes.Text(relationshipKey)}
	if f.EventType == "" {
		return
	}
	if from := known[l.Ref]; from != nil {
		f.From = from.Service
	} else {
		f.From = event.Type(f.EventType).Publisher()
		m.service(f.From)
	}
	m.flows[f]++
}

func (m *mapping) done() ServiceMap {
	done := ServiceMap{Services: []Service{}, Flows: []EventsFlow{}}
	for _, s := range m.services {
		done.Services = append(done.Services, *s)
	}
	for f, links := range m.flows {
		f.Links = links
		done.Flows = append(done.Flows, f)
	}
	slices.SortFunc(done.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(done.Flows, func(a, b EventsFlow) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To),
			cmp.Compare(a.EventType, b.EventType), cmp.Compare(a.Relationship, b.Relationship))
	})
	return done
}
