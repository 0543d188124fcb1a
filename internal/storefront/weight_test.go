package storefront_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"testing"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/ordertrail"
	"example.org/ordertrail/internal/scenario"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// heaviest is how much a page may weigh with all its parts, in bytes, not zipped.
const heaviest = 150_000

// Every page of every scenario's order is small enough for a slow line, with its style, its
// script and its icon.
func TestPageWeights(t *testing.T) {
	t.Parallel()
	s := everything(t, systemtest.Deadline(demo.OrderDeadline), func(cfg *systemtest.Config) {
		cfg.Settings.JaegerUIURL = &url.URL{Scheme: "http", Host: "localhost:16686"}
	})
	ids := map[string]string{}
	for _, sc := range scenario.All() {
		ids[sc.Name] = wantRedirect(t, MustSubmit(t, s, "/scenarios/"+sc.Name, nil, submitted()))
	}
	for name, id := range ids {
		systemtest.Until(t, name+"'s trail is complete", func() bool {
			var got ordertrail.Trail
			a := s.MustGet(t, "/orders/"+id+"/trail")
			a.WantStatus(t, http.StatusOK)
			if err := json.Unmarshal(a.Content, &got); err != nil {
				t.Fatal(err)
			}
			return got.Complete
		})
		wantLight(t, s, name, "/orders/"+id)
		wantLight(t, s, name, "/orders/"+id+"/trail")
	}
	for _, path := range []string{"/", "/services", "/analytics", "/orders/" + shoptest.Unknown} {
		wantLight(t, s, "all", path)
	}
}

// wantLight checks the size of a page.
func wantLight(t *testing.T, s *shoptest.Shop, scenario, path string) {
	t.Helper()
	a := MustVisit(t, s, path)
	weight := len(a.Content)
	parts := regexp.MustCompile(`(?:src|href)="(/assets/[^"]+)"`).FindAllStringSubmatch(string(a.Content), -1)
	if len(parts) != 3 {
		t.Fatalf("%s has the parts %v, want a style, a script and an icon", path, parts)
	}
	for _, p := range parts {
		part := s.MustGet(t, p[1])
		part.WantStatus(t, http.StatusOK)
		weight += len(part.Content)
	}
	t.Logf("%6d bytes, %6d without its parts: %s %s", weight, len(a.Content), scenario, path)
	if weight > heaviest {
		t.Errorf("%s, of %s, weighs %d bytes with all its parts, want %d at most", path, scenario, weight, heaviest)
	}
}
