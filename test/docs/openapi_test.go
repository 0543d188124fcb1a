package docs

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/test/systemtest"
)

// inspector is an HTTP transport that compares each request and response with the API's
// description.
type inspector struct {
	t *testing.T
	description
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
	template, method := in.template(r.URL.Path), strings.ToLower(r.Method)
	in.mu.Lock()
	defer in.mu.Unlock()
	in.seen[r.Method+" "+template+" "+strconv.Itoa(answer.StatusCode)] = true
	response, at := in.resolved(pointer("paths", template, method, "responses", strconv.Itoa(answer.StatusCode)))
	if response == nil {
		return answer, nil // wantAll reports it
	}
	complain := func(what string, err any) {
		in.t.Errorf("%s %s: %s: %s differs from the description: %v", r.Method, r.URL.Path, answer.Status, what, err)
	}
	headers, _ := response["headers"].(map[string]any)
	for name := range headers {
		if answer.Header.Get(name) == "" {
			complain("header "+name, "it is missing")
		}
	}
	content, _ := response["content"].(map[string]any)
	kind, _, _ := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if content != nil && content[kind] == nil {
		complain("Content-Type", kind)
	}
	if kind == "text/event-stream" {
		return answer, in.feed(answer, map[bool]string{true: "Change", false: "Event"}[template == "/events"], complain)
	}
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	_ = answer.Body.Close()
	answer.Body = io.NopCloser(bytes.NewReader(got))
	if content[kind] != nil && strings.HasSuffix(kind, "json") {
		in.validate(at+"/content/"+strings.ReplaceAll(kind, "/", "~1")+"/schema", got, complain)
	}
	if len(sent) > 0 && answer.StatusCode < 300 { // other requests may be wrong on purpose
		in.validate(pointer("paths", template, method, "requestBody", "content", "application/json", "schema"), sent, complain)
	}
	return answer, nil
}

// feed reads and validates the first event of a feed.
func (in *inspector) feed(answer *http.Response, schema string, complain func(string, any)) error {
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			in.validate(pointer("components", "schemas", schema), []byte(data), complain)
			break
		}
	}
	_ = answer.Body.Close()
	answer.Body = http.NoBody
	return lines.Err()
}

// template returns the described path that matches a request's path. If several match, it
// returns the one with the fewest parameters.
func (in *inspector) template(path string) (best string) {
	for template, matches := range in.paths {
		if matches.MatchString(path) && (best == "" || strings.Count(template, "{") < strings.Count(best, "{")) {
			best = template
		}
	}
	return best
}

// inspect returns an inspector for docs/api/openapi.yaml.
func inspect(t *testing.T) *inspector {
	t.Helper()
	in := &inspector{t: t, description: describe(t, openAPI), paths: map[string]*regexp.Regexp{}, seen: map[string]bool{}}
	if in.whole["openapi"] != "3.1.0" {
		t.Errorf("openapi: %v", in.whole["openapi"])
	}
	for template := range in.whole["paths"].(map[string]any) {
		in.paths[template] = regexp.MustCompile("^" + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(template), `[^/]+`) + "$")
	}
	return in
}

// TestOpenAPI plays all scenarios, requests every response of every operation, and compares
// them with docs/api/openapi.yaml.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	in := inspect(t)
	sys := systemtest.Start(t, systemtest.Deadline(demo.OrderDeadline))
	sys.AwaitStock(t)
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
			order, err := systemtest.Play(t.Context(), shop, sc)
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
	for _, id := range []string{ids[0], unknown, "x"} {
		do(http.MethodGet, "/search?id="+id, "")
	}
	do(http.MethodGet, "/events", "", "Last-Event-ID", "x")
	do(http.MethodDelete, "/orders/"+unknown, "")
	do(http.MethodDelete, "/orders/x", "")
	_, placed := do(http.MethodPost, "/orders", good, "Content-Type", json, "Idempotency-Key", "a")
	young := regexp.MustCompile(`"id":"([^"]+)"`).FindSubmatch(placed)
	if _, got := do(http.MethodGet, "/orders/"+string(young[1])+"/trail", ""); !bytes.Contains(got, []byte(`"gaps":[{`)) {
		t.Errorf("a young order's trail has no gaps: %s", got)
	}
	do(http.MethodPost, "/orders", good, "Content-Type", json, "Idempotency-Key", "a")
	do(http.MethodPost, "/orders", strings.Replace(good, "2", "3", 1), "Content-Type", json, "Idempotency-Key", "a")
	do(http.MethodPost, "/orders", `{"items":[{"sku":"TENT","quantity":0}]}`, "Content-Type", json)
	do(http.MethodPost, "/orders", `{`, "Content-Type", json)
	do(http.MethodPost, "/orders", good, "Content-Type", "text/plain")
	do(http.MethodPost, "/orders", strings.Repeat(" ", 70_000)+good, "Content-Type", json)
	in.wantAll(t)
}

// rare maps the statuses that this test does not cause to the tests that do.
var rare = map[string]string{
	"429": "services/orders: TestBacklog",
	"501": "internal/storefront: TestTrailWithoutTraces",
	"502": "internal/storefront: TestTrailWithoutJaeger",
	"503": "services/orders: TestRequestsUnderWay",
	"504": "internal/storefront: TestTrailWithoutJaeger",
}

// wantAll reports what is described but was not seen, and what was seen but is not
// described.
func (in *inspector) wantAll(t *testing.T) {
	t.Helper()
	described, ids := map[string]bool{}, map[any]bool{}
	for path, item := range in.whole["paths"].(map[string]any) {
		item := item.(map[string]any)
		parameters, _ := item["parameters"].([]any)
		if strings.Contains(path, "{") != (len(parameters) > 0) {
			t.Errorf("%s: %d parameters", path, len(parameters))
		}
		for method, operation := range item {
			operation, ok := operation.(map[string]any)
			if !ok {
				continue // parameters
			}
			if id := operation["operationId"]; id == nil || ids[id] {
				t.Errorf("%s %s: the operationId %v is missing or not unique", method, path, id)
			} else {
				ids[id] = true
			}
			for status := range operation["responses"].(map[string]any) {
				described[strings.ToUpper(method)+" "+path+" "+status] = true
				if response, _ := in.resolved(pointer("paths", path, method, "responses", status)); response["description"] == nil {
					t.Errorf("%s %s %s has no description", method, path, status)
				}
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
			t.Errorf("described but not seen: %s", what)
		}
	}
	tests := ""
	for _, file := range []string{"services/orders/bounds_test.go", "internal/storefront/trail_test.go"} {
		tests += read(t, root+"/"+file)
	}
	for status, by := range rare {
		if _, name, _ := strings.Cut(by, ": "); !strings.Contains(tests, "func "+name+"(") {
			t.Errorf("%s: %s does not exist", status, by)
		}
	}
	// Each route is described, except those of the pages.
	pages := regexp.MustCompile(`^(GET /\{\$\}|GET /assets/|POST /place|POST /scenarios/.*|POST /orders/\{id\}/cancel)$`)
	source := read(t, root+"/services/orders/http.go") + read(t, root+"/internal/storefront/storefront.go") + read(t, root+"/services/analytics/analytics.go") + read(t, root+"/internal/service/main.go")
	routes := regexp.MustCompile(`mux\.Handle(?:Func)?\("([A-Z]+ /[^"]*)"`).FindAllStringSubmatch(source, -1)
	if len(routes) < 10 {
		t.Fatalf("found only %d routes in the sources", len(routes))
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
