package docs

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/stream"
	"example.org/ordertrail/test/systemtest"
)

// TestAsyncAPI plays all scenarios and compares every event in the stream with
// docs/api/asyncapi.yaml.
func TestAsyncAPI(t *testing.T) {
	t.Parallel()
	var document struct {
		AsyncAPI string `yaml:"asyncapi"`
		Channels map[string]struct {
			Address    string
			Parameters map[string]any
			Messages   map[string]map[string]string
		}
		Operations map[string]struct {
			Action  string
			Channel map[string]string
		}
		Components struct {
			Messages map[string]struct {
				Name             string
				Headers, Payload map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, asyncAPI)), &document); err != nil {
		t.Fatal(err)
	}
	api := describe(t, asyncAPI)
	if document.AsyncAPI != "3.0.0" {
		t.Errorf("asyncapi: %q", document.AsyncAPI)
	}
	types := append([]event.Type{event.StockAdded, event.StockLease}, event.OfOrder...)
	if len(document.Channels) != len(types) || len(document.Components.Messages) != len(types) {
		t.Errorf("%d channels and %d messages, want %d", len(document.Channels), len(document.Components.Messages), len(types))
	}
	schemas := map[event.Type][2]*jsonschema.Schema{} // headers, payload
	sent := map[event.Type]int{}
	for name, operation := range document.Operations {
		channel, ok := strings.CutPrefix(operation.Channel["$ref"], "#/channels/")
		if _, exists := document.Channels[channel]; !ok || !exists {
			t.Errorf("operation %s: no channel %s", name, operation.Channel["$ref"])
		}
		switch operation.Action {
		case "send":
			sent[event.Type(channel)]++
			if domain, _, _ := strings.Cut(name, "."); domain != event.Type(channel).Publisher() {
				t.Errorf("operation %s sends %s, but %s publishes it", name, channel, event.Type(channel).Publisher())
			}
		case "receive":
		default:
			t.Errorf("operation %s: action %q", name, operation.Action)
		}
	}
	for _, typ := range types {
		channel, message := document.Channels[string(typ)], document.Components.Messages[string(typ)]
		key := map[bool]string{true: "{order_id}", false: "{sku}"}[typ.Domain() != "stock"]
		if typ == event.StockLease {
			key = event.LeaseKey
		}
		if channel.Address != typ.Subject(key) || channel.Messages["event"]["$ref"] != "#/components/messages/"+string(typ) || message.Name != string(typ) {
			t.Errorf("%s: channel %+v, message %+v", typ, channel, message)
		}
		for _, parameter := range regexp.MustCompile(`\{(\w+)\}`).FindAllStringSubmatch(channel.Address, -1) {
			if channel.Parameters[parameter[1]] == nil {
				t.Errorf("%s: parameter %s is not described", typ, parameter[1])
			}
		}
		if sent[typ] != 1 {
			t.Errorf("%d operations send %s", sent[typ], typ)
		}
		var pair [2]*jsonschema.Schema
		for i, ref := range []string{message.Headers["$ref"], message.Payload["$ref"]} {
			var err error
			if pair[i], err = api.compiler.Compile("api.json" + ref); err != nil {
				t.Fatalf("%s: %v", typ, err)
			}
		}
		schemas[typ] = pair
	}

	sys := systemtest.Start(t, systemtest.Deadline(demo.OrderDeadline))
	sys.AwaitStock(t)
	var wg sync.WaitGroup
	for _, sc := range demo.Scenarios() {
		wg.Go(func() {
			if _, err := systemtest.Play(t.Context(), sys.Shop, sc); err != nil {
				t.Errorf("%s: %v", sc.Name, err)
			}
		})
	}
	wg.Wait()
	published := map[event.Type]int{}
	s, err := sys.JetStream().Stream(t.Context(), stream.OrdersStream)
	if err != nil {
		t.Fatal(err)
	}
	for sequence := uint64(1); sequence <= s.CachedInfo().State.LastSeq; sequence++ {
		m, err := s.GetMsg(t.Context(), sequence)
		if err != nil {
			t.Fatal(err)
		}
		typ, _, err := event.ParseSubject(m.Subject)
		if err != nil {
			t.Fatal(err)
		}
		published[typ]++
		wantValid(t, m, schemas[typ])
	}
	for _, typ := range types {
		if published[typ] == 0 {
			t.Errorf("no scenario publishes %s", typ)
		}
	}
}

func wantValid(t *testing.T, m *jetstream.RawStreamMsg, schemas [2]*jsonschema.Schema) {
	t.Helper()
	headers := map[string]any{}
	for name, values := range m.Header {
		if slices.Contains([]string{jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer}, name) {
			continue // the server adds these to its answer
		}
		if len(values) != 1 {
			t.Errorf("%s: header %s has %d values", m.Subject, name, len(values))
			continue
		}
		headers[name] = values[0]
	}
	if err := schemas[0].Validate(headers); err != nil {
		t.Errorf("headers of %s: %v", m.Subject, err)
	}
	payload, err := jsonschema.UnmarshalJSON(bytes.NewReader(m.Data))
	if err != nil {
		t.Fatalf("%s: %v", m.Subject, err)
	}
	if err := schemas[1].Validate(payload); err != nil {
		t.Errorf("%s: %v\n%s", m.Subject, err, m.Data)
	}
}
