package docs

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/pb33f/go-yaml"
	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"ordertrail/internal/demo"
	"ordertrail/internal/event"
	"ordertrail/internal/stream"
	"ordertrail/internal/system/systemtest"
)

const (
	openAPI  = root + "/docs/api/openapi.yaml"
	asyncAPI = root + "/docs/api/asyncapi.yaml"
)

// inspector is a customer's transport that compares everything that goes through it
// with the API's description.
type inspector struct {
	t     *testing.T
	check validator.Validator
	paths map[string]*regexp.Regexp // by template

	mu   sync.Mutex
	seen map[string]bool // "GET /orders/{id} 200"
}

func (in *inspector) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
		in.saw(r, answer) // has no end
		return answer, nil
	}
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	_ = answer.Body.Close()
	r = r.Clone(context.WithoutCancel(r.Context()))
	r.Body = io.NopCloser(bytes.NewReader(sent))
	answer.Body = io.NopCloser(bytes.NewReader(got))
	if answer.StatusCode < 400 { // else the request may be wrong on purpose
		if ok, errs := in.check.ValidateHttpRequest(r); !ok {
			in.complain(r, answer, sent, errsOf(errs))
		}
		r.Body = io.NopCloser(bytes.NewReader(sent))
	}
	if ok, errs := in.check.ValidateHttpResponse(r, answer); !ok {
		in.complain(r, answer, got, errsOf(errs))
	}
	answer.Body = io.NopCloser(bytes.NewReader(got))
	in.saw(r, answer)
	return answer, nil
}

func errsOf[E error](errs []E) (texts []string) {
	for _, e := range errs {
		texts = append(texts, e.Error())
	}
	return texts
}

func (in *inspector) complain(r *http.Request, answer *http.Response, body []byte, errs []string) {
	in.t.Errorf("%s %s: %s: not as described: %s\n%.2000s", r.Method, r.URL.Path, answer.Status, strings.Join(errs, "; "), body)
}

func (in *inspector) saw(r *http.Request, answer *http.Response) {
	in.mu.Lock()
	defer in.mu.Unlock()
	best := "" // of several templates the one with most of it written out
	for template, path := range in.paths {
		if path.MatchString(r.URL.Path) && (best == "" || strings.Count(template, "{") < strings.Count(best, "{")) {
			best = template
		}
	}
	in.seen[r.Method+" "+best+" "+answer.Status[:3]] = true
}

// inspect reads the API's description, which must be valid itself.
func inspect(t *testing.T) (*inspector, *v3.Document) {
	t.Helper()
	document, err := libopenapi.NewDocument([]byte(read(t, openAPI)))
	if err != nil {
		t.Fatal(err)
	}
	model, err := document.BuildV3Model()
	if err != nil {
		t.Fatal(err)
	}
	check, errs := validator.NewValidator(document)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if ok, errs := check.ValidateDocument(); !ok {
		t.Fatalf("%s is not valid: %s", openAPI, strings.Join(errsOf(errs), "; "))
	}
	in := &inspector{t: t, check: check, paths: map[string]*regexp.Regexp{}, seen: map[string]bool{}}
	for template := range model.Model.Paths.PathItems.KeysFromOldest() {
		in.paths[template] = regexp.MustCompile("^" + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `[^/]+`) + "$")
	}
	return in, &model.Model
}

// What the services answer is what docs/api/openapi.yaml says: all scenarios are
// played, and each operation is asked for what it can answer.
func TestOpenAPI(t *testing.T) {
	in, _ := inspect(t)
	sys := systemtest.Start(t, systemtest.Deadline(demo.OrderDeadline))
	shop := demo.Shop{URL: sys.URL, Client: &http.Client{Transport: in, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	do := func(method, path, body string, header ...string) (int, []byte) {
		t.Helper()
		r, err := http.NewRequest(method, sys.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body == "" {
			r.Body = nil
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer, err := shop.Client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") {
			return answer.StatusCode, nil
		}
		got, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, got
	}
	var ids []string
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, sc := range demo.Scenarios() {
		wg.Go(func() {
			order, err := demo.Play(t.Context(), shop, sc)
			if err != nil {
				t.Errorf("%s: %v", sc.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, order.ID)
		})
	}
	wg.Wait()
	span, batch := "", ""
	for _, id := range ids {
		var trail struct {
			Traces []struct {
				Spans []struct {
					Trace string `json:"trace_id"`
					Span  string `json:"span_id"`
					Batch *struct{}
				}
			}
		}
		_, got := do(http.MethodGet, "/orders/"+id+"/trail", "")
		if err := json.Unmarshal(got, &trail); err != nil {
			t.Fatal(err)
		}
		for _, l := range trail.Traces {
			span = l.Spans[0].Span
			if l.Spans[0].Batch != nil {
				batch = l.Spans[0].Trace
			}
		}
		do(http.MethodGet, "/orders/"+id+"/trail", "", "Accept", "text/html")
		do(http.MethodGet, "/orders/"+id+"/trail", "", "Accept", "text/plain")
		do(http.MethodGet, "/orders/"+id+"/events", "")
		do(http.MethodDelete, "/orders/"+id, "")
	}
	const json = "application/json"
	const good = `{"customer":{"name":"Robin Example","email":"robin@example.com"},"items":[{"sku":"TRAIL-MAP","quantity":2}],"payment":{"token":"tok_ok"},"shipping":{"address":"1 Trailhead Way"}}`
	unknown := "01890000-0000-7000-8000-000000000000"
	for _, path := range []string{
		"/orders", "/events", "/catalog", "/analytics", "/services", "/healthz", "/readyz",
		"/trail?span=" + span, "/trail?trace=" + batch, "/trail", "/trail?trace=x", "/trail?span=" + strings.Repeat("0", 16),
		"/orders/" + unknown, "/orders/x", "/orders/" + unknown + "/trail", "/orders/x/trail", "/orders/" + unknown + "/events", "/orders/x/events",
	} {
		do(http.MethodGet, path, "")
	}
	do(http.MethodGet, "/orders/"+ids[0]+"/trail", "", "Accept", "image/png")
	do(http.MethodGet, "/trail?span="+span, "", "Accept", "image/png")
	do(http.MethodGet, "/trail?span="+span, "", "Accept", "text/html")
	do(http.MethodGet, "/services", "", "Accept", "image/png")
	do(http.MethodGet, "/events", "", "Last-Event-ID", "x")
	do(http.MethodDelete, "/orders/"+unknown, "")
	do(http.MethodDelete, "/orders/x", "")
	do(http.MethodPost, "/orders", good, "Content-Type", json, "Idempotency-Key", "a")
	do(http.MethodPost, "/orders", good, "Content-Type", json, "Idempotency-Key", "a")
	do(http.MethodPost, "/orders", strings.Replace(good, "2", "3", 1), "Content-Type", json, "Idempotency-Key", "a")
	do(http.MethodPost, "/orders", `{"items":[{"sku":"TENT","quantity":0}]}`, "Content-Type", json)
	do(http.MethodPost, "/orders", `{`, "Content-Type", json)
	do(http.MethodPost, "/orders", good, "Content-Type", "text/plain")
	do(http.MethodPost, "/orders", strings.Repeat(" ", 70_000)+good, "Content-Type", json)
	in.wantAll(t)
}

// rare are answers that other tests bring about: the package that does.
var rare = map[string]string{
	"429": "services/orders: TestBacklog",
	"501": "services/orders: TestTrailWithoutTraces",
	"502": "services/orders: TestTrailWithoutJaeger",
	"503": "services/orders: TestBounds",
	"504": "services/orders: TestTrailWithoutJaeger",
}

// wantAll wants everything that is described to have been seen, and the other way
// round.
func (in *inspector) wantAll(t *testing.T) {
	t.Helper()
	_, model := inspect(t)
	described := map[string]bool{}
	for path, item := range model.Paths.PathItems.FromOldest() {
		for method, operation := range item.GetOperations().FromOldest() {
			for status := range operation.Responses.Codes.KeysFromOldest() {
				described[strings.ToUpper(method)+" "+path+" "+status] = true
			}
		}
	}
	for what := range in.seen {
		if !described[what] {
			t.Errorf("not described: %s", what)
		}
	}
	for what := range described {
		if !in.seen[what] && rare[what[len(what)-3:]] == "" {
			t.Errorf("described, and never seen: %s", what)
		}
	}
	// Each route is described, but for the pages' own.
	pages := regexp.MustCompile(`^(GET /\{\$\}|GET /assets/|POST /place|POST /scenarios/.*|POST /orders/\{id\}/cancel)$`)
	source := read(t, root+"/services/orders/http.go") + read(t, root+"/services/analytics/analytics.go") + read(t, root+"/internal/service/main.go")
	routes := regexp.MustCompile(`mux\.Handle(?:Func)?\("([A-Z]+ /[^"]*)"`).FindAllStringSubmatch(source, -1)
	if len(routes) < 10 {
		t.Fatalf("%d routes: the sources are not read well", len(routes))
	}
	for _, route := range routes {
		if pages.MatchString(route[1]) {
			continue
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(described)), func(d string) bool { return strings.HasPrefix(d, route[1]+" ") }) {
			t.Errorf("not described: %s", route[1])
		}
	}
}

// The events in the stream are what docs/api/asyncapi.yaml says, each of them.
func TestAsyncAPI(t *testing.T) {
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
	text := []byte(read(t, asyncAPI))
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var whole any
	if err := yaml.Unmarshal(text, &whole); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	resource, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("asyncapi.json", resource); err != nil {
		t.Fatal(err)
	}
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
				t.Errorf("operation %s sends %s, which is %s's", name, channel, event.Type(channel).Publisher())
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
			if pair[i], err = compiler.Compile("asyncapi.json" + ref); err != nil {
				t.Fatalf("%s: %v", typ, err)
			}
		}
		schemas[typ] = pair
	}

	sys := systemtest.Start(t, systemtest.Deadline(demo.OrderDeadline))
	var wg sync.WaitGroup
	for _, sc := range demo.Scenarios() {
		wg.Go(func() {
			if _, err := demo.Play(t.Context(), sys.Shop, sc); err != nil {
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

// The descriptions are read by people too: every file of docs/api is mentioned.
func TestAPIDocumentsAreMentioned(t *testing.T) {
	files, err := os.ReadDir(root + "/docs/api")
	if err != nil || len(files) != 2 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, f := range files {
		if !strings.Contains(read(t, root+"/README.md"), "(docs/api/"+f.Name()+")") {
			t.Errorf("the README does not mention docs/api/%s", f.Name())
		}
	}
}
