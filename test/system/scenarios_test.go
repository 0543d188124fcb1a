package system_test

import (
	"bytes"
	"context"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/test/systemtest"
)

// soon is a deadline that suffices for an order, and that a test can wait for.
const soon = 5 * time.Second

// Each scenario ends as it should, through the API, and all at once.
func TestScenarios(t *testing.T) {
	t.Parallel()
	sys := systemtest.Start(t, systemtest.Deadline(soon))
	sys.AwaitStock(t)
	t.Run("scenarios", func(t *testing.T) {
		for _, sc := range demo.Scenarios() {
			t.Run(sc.Name, func(t *testing.T) {
				t.Parallel()
				if _, err := systemtest.Play(context.Background(), sys.Shop, sc); err != nil {
					t.Error(err)
				}
			})
		}
	})
	// docs/security.md names the events that contain a mail address.
	document, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, kept, _ := strings.Cut(string(document), "## Which personal data is kept")
	table, _, _ := strings.Cut(kept, "Payloads of other events")
	var named []string
	for _, m := range regexp.MustCompile("`([a-z]+\\.[a-z]+)`").FindAllStringSubmatch(table, -1) {
		if m[1] != "client.address" {
			named = append(named, m[1])
		}
	}
	found := map[string]bool{}
	for _, events := range systemtest.Settle(t, sys.JetStream(), len(demo.Scenarios())).Orders {
		for _, e := range events {
			if bytes.ContainsRune(e.Data, '@') {
				found[string(e.Type)] = true
			}
		}
	}
	// The Message-ID of a mail has an @, and no address.
	maps.DeleteFunc(found, func(name string, _ bool) bool { return strings.HasPrefix(name, "notify.") })
	slices.Sort(named)
	if !slices.Equal(named, slices.Sorted(maps.Keys(found))) {
		t.Errorf("docs/security.md names %q; these have addresses: %q", named, slices.Sorted(maps.Keys(found)))
	}
}
