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
}

// EventsFlow is an edge of a ServiceMap: events of one type, from the service that
// publishes them to a service that links them.
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
	var members []*Span
	for i := range spans {
		if s := &spans[i]; known[s.Ref] == nil {
			known[s.Ref] = s
			members = append(members, s)
		}
	}
	return serviceMap(members, func(s *Span) []Link { return s.Links }, known, publisher)
}

func serviceMap(members []*Span, links func(*Span) []Link, known map[Ref]*Span, publisher func(string) string) ServiceMap {
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
			f := EventsFlow{To: span.Service, EventType: l.Attributes.Text(linkEventKey), Relationship: l.Attributes.Text(relationshipKey)}
			if from := known[l.Ref]; from != nil {
				f.From = from.Service
			} else if publisher != nil {
				f.From = publisher(f.EventType)
			}
			if f.EventType != "" && f.From != "" {
				service(f.From)
				flows[f]++
			}
		}
	}
	m := ServiceMap{Services: []Service{}, Flows: []EventsFlow{}}
	for _, s := range services {
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
