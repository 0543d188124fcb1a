package trail

import (
	"cmp"
	"slices"
)

// ServiceMap is the services and the events that flow between them, computed from
// links. It shows services that only consume, which a map of parents and children
// cannot show.
type ServiceMap struct {
	Services []Service    `json:"services"` // sorted
	Flows    []EventsFlow `json:"flows"`    // sorted
}

// Service is a node of a ServiceMap.
type Service struct {
	Name   string `json:"name"`
	Spans  int    `json:"spans"`
	Failed int    `json:"failed_spans"`
	// Step is how many links lead from the start of a story to the service, at least.
	Step int `json:"step"`
}

// eventKeys are the attributes that name the events of a flow, of its links or spans.
var eventKeys = []string{linkEventKey, "messaging.destination.template", destinationKey}

// EventsFlow is an edge of a ServiceMap: events of one type, from the service that
// publishes them to a service that links them, or calls to a service whose spans are
// children (child_of).
type EventsFlow struct {
	From         string `json:"from"`
	To           string `json:"to"`
	EventType    string `json:"event_type"`
	Relationship string `json:"relationship"`
	Links        int    `json:"links"`
}

// Map computes the service map of spans of any number of stories. For publisher see
// [Options].
func Map(spans []Span, publisher func(eventType string) string) ServiceMap {
	known := make(map[Ref]*Span, len(spans))
	members := make([]*Span, len(spans))
	for i := range spans {
		members[i] = &spans[i]
		known[spans[i].Ref] = &spans[i]
	}
	return serviceMap(members, func(s *Span) []Link { return s.Links }, func(r Ref) *Span { return known[r] }, publisher)
}

func serviceMap(members []*Span, links func(*Span) []Link, known func(Ref) *Span, publisher func(string) string) ServiceMap {
	services := map[string]*Service{}
	service := func(name string) *Service {
		if services[name] == nil {
			services[name] = &Service{Name: name}
		}
		return services[name]
	}
	flows := map[EventsFlow]int{} // the keys have no Links
	for _, span := range members {
		s := service(span.Service)
		s.Spans++
		if span.Status == StatusError {
			s.Failed++
		}
		for _, l := range links(span) {
			f := EventsFlow{To: span.Service, EventType: l.Attributes.first(eventKeys), Relationship: l.Attributes.Text(relationshipKey)}
			if from := known(l.Ref); from != nil {
				f.From = from.Service
				f.EventType = cmp.Or(f.EventType, from.Attributes.first(eventKeys), span.Attributes.first(eventKeys))
			} else if publisher != nil {
				f.From = publisher(f.EventType)
			}
			if f.From != "" && !l.untrusted() {
				service(f.From)
				flows[f]++
			}
		}
	}
	for _, span := range members {
		parent := Ref{span.TraceID, span.ParentID}
		from := known(parent)
		if from == nil || from.Service == span.Service || slices.ContainsFunc(span.Links, func(l Link) bool { return l.Ref == parent }) {
			continue
		}
		f := EventsFlow{From: from.Service, To: span.Service, EventType: cmp.Or(from.Attributes.first(eventKeys), span.Attributes.first(eventKeys)), Relationship: "child_of"}
		service(f.From)
		flows[f]++
	}
	steps := steps(members, links, known)
	m := ServiceMap{Services: []Service{}, Flows: []EventsFlow{}}
	for _, s := range services {
		s.Step = steps[s.Name]
		m.Services = append(m.Services, *s)
	}
	for f, links := range flows {
		f.Links = links
		m.Flows = append(m.Flows, f)
	}
	slices.SortFunc(m.Services, func(a, b Service) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(m.Flows, func(a, b EventsFlow) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To),
			cmp.Compare(a.EventType, b.EventType), cmp.Compare(a.Relationship, b.Relationship))
	})
	return m
}

// steps returns the least number of links that lead to each service. Spans with an unknown
// cause do not count.
func steps(members []*Span, links func(*Span) []Link, known func(Ref) *Span) map[string]int {
	const unknown = 1 << 30
	depths := make(map[Ref]int, len(members))
	var depth func(*Span) int
	depth = func(s *Span) int {
		if s == nil {
			return unknown
		}
		if d, ok := depths[s.Ref]; ok {
			return d
		}
		depths[s.Ref] = 0 // ends a circle
		d := 0
		if s.ParentID != "" {
			d = depth(known(Ref{s.TraceID, s.ParentID}))
		}
		for _, l := range links(s) {
			d = max(d, depth(known(l.Ref))+1)
		}
		depths[s.Ref] = d
		return d
	}
	steps := map[string]int{}
	for _, m := range members {
		if at, ok := steps[m.Service]; depth(m) < unknown && (!ok || depth(m) < at) {
			steps[m.Service] = depth(m)
		}
	}
	return steps
}
