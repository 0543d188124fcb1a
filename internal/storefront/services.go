package storefront

import (
	"context"
	"net/http"
	"time"

	"golang.org/x/sync/singleflight"

	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/internal/respond"
	"example.org/ordertrail/internal/web"
	"example.org/ordertrail/trail"
	"example.org/ordertrail/trail/view"
)

const (
	mapTraces = 1000        // the service map covers this number of the newest traces
	mapFresh  = time.Second // a map is shown again for this time
)

// services answers with the service map, computed from the links of the newest traces.
func (s *storefront) services(w http.ResponseWriter, r *http.Request) error {
	form, err := respond.Negotiate(w, r, respond.MediaJSON, respond.MediaHTML)
	if err != nil {
		return err
	}
	if s.traces == nil {
		return errNoTraces
	}
	m, err := s.maps.get(r.Context(), func(ctx context.Context) (trail.ServiceMap, error) {
		// Other clients may wait for it too, so it does not end with the first one.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.sourceTimeout)
		defer cancel()
		found, err := s.traces.Recent(ctx, mapTraces)
		return trail.Map(found.Spans, ordertrail.Publisher), err
	})
	if err != nil {
		return s.explain(r.Context(), err, "")
	}
	if form == respond.MediaHTML {
		return s.page(w, r, http.StatusOK, web.Page{Template: "services", Title: "Service map", Here: "services", Feed: "/events", Data: view.NewServiceMap(m, web.Class)})
	}
	respond.JSON(w, http.StatusOK, m)
	return nil
}

// sharedMap makes a service map once for all its readers. It is made of a thousand
// traces, and a page that follows the events requests it four times a second.
type sharedMap struct {
	now   func() time.Time
	group singleflight.Group // runs one function at a time, which alone uses made and kept
	made  time.Time
	kept  trail.ServiceMap
}

// get returns the map, which make makes if there is no fresh one. An error is for the
// readers that wait for the same map, and is not kept.
func (s *sharedMap) get(ctx context.Context, make func(context.Context) (trail.ServiceMap, error)) (trail.ServiceMap, error) {
	m, err, _ := s.group.Do("", func() (any, error) {
		if !s.made.IsZero() && s.now().Sub(s.made) < mapFresh {
			return s.kept, nil
		}
		m, err := make(ctx)
		if err == nil {
			s.made, s.kept = s.now(), m
		}
		return m, err
	})
	return m.(trail.ServiceMap), err
}
