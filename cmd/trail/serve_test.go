package main

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"example.org/ordertrail/trail"
)

// An application of another module, with links only and none of our attributes, shows its
// whole story: on the page, as JSON and as text, from its first trace and its last span.
func TestForeignApplication(t *testing.T) {
	s := serve(t)
	traceID, spanID := foreign(t, s.http)
	for _, id := range []string{traceID, spanID, strings.ToUpper(traceID)} {
		out, stderr, code := run(t, "show", "--from", s.page, "--json", id)
		var story trail.Story
		if err := json.Unmarshal([]byte(out), &story); err != nil || code != 0 {
			t.Fatalf("show %s: %v, %d, %s", id, err, code, stderr)
		}
		var names []string
		links := 0
		for _, l := range story.Lanes {
			for _, n := range l.Spans {
				names = append(names, n.Service+" "+n.Name)
			}
		}
		for _, e := range story.Edges {
			if e.Kind == trail.EdgeLink && !e.Missing {
				links++
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, ", "); len(story.Lanes) != 4 || links != 4 || len(story.Gaps) != 0 || got != "mailer mail, resizer report, resizer report, resizer resize, resizer resize, web enqueue, web upload" {
			t.Errorf("%s: %d traces, %d links, %v: %s", id, len(story.Lanes), links, story.Gaps, got)
		}
		if p := story.CriticalPath; p.To != "mail" || p.Duration != story.Duration {
			t.Errorf("the critical path leads to %s in %v, of %v", p.To, p.Duration, story.Duration)
		}
		if m := story.Services; len(m.Services) != 3 {
			t.Errorf("the service map is %+v", m)
		}
	}
	text, stderr, code := run(t, "show", "--from", s.page, traceID)
	if code != 0 || !strings.Contains(text, "resizer: resize") || !strings.Contains(text, "mailer: mail") {
		t.Errorf("%d %s: %s", code, stderr, text)
	}
	file := filepath.Join(t.TempDir(), "story.html")
	if _, stderr, code := run(t, "show", "--from", s.page, "--html", file, traceID); code != 0 {
		t.Errorf("%d %s", code, stderr)
	}
	html, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(html), `id="span-`+spanID+`"`) || regexp.MustCompile(`(src|href)="(http|/)`).Match(html) {
		t.Errorf("the page of %d bytes is not whole, or not self-contained: %v", len(html), err)
	}
	status, _, list := get(t, s.page+"/", "application/json")
	var got struct{ Stories []summary }
	if err := json.Unmarshal([]byte(list), &got); err != nil || status != http.StatusOK || len(got.Stories) != 2 {
		t.Fatalf("%d %v: %s", status, err, list)
	}
	for _, sum := range got.Stories {
		if sum.Name == "web: upload" && (sum.ID != traceID || strings.Join(sum.Services, " ") != "mailer resizer web" || sum.Spans != 7 || sum.Traces != 4 || sum.Errors != 1 || sum.Duration <= 0) {
			t.Errorf("%+v", sum)
		}
	}
	status, _, list = get(t, s.page+"/?q=size%3Dlarge", "application/json")
	if err := json.Unmarshal([]byte(list), &got); err != nil || status != http.StatusOK || len(got.Stories) != 1 || got.Stories[0].ID != traceID {
		t.Errorf("the search answers %d, %s", status, list)
	}
	for query, want := range map[string]string{traceID: "/stories/" + traceID, spanID: "/stories/" + spanID} {
		if status, header, _ := get(t, s.page+"/?q="+query, browser); status != http.StatusSeeOther || header.Get("Location") != want {
			t.Errorf("the search for %s leads to %d %s", query, status, header.Get("Location"))
		}
	}
	status, header, page := get(t, s.page+"/stories/"+traceID, browser)
	if status != http.StatusOK || !strings.Contains(page, `href="#span-`+spanID+`"`) || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("the page is %d %v", status, header)
	}
	s.stop(t)
}

// A page of stories gets an event when spans arrive.
func TestFeed(t *testing.T) {
	s := serve(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.page+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	next := func() (data string) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		return ""
	}
	if data := next(); !strings.Contains(data, `"added":0`) {
		t.Errorf("the first event is %q", data)
	}
	send(t, s.http, 1)
	if data := next(); !strings.Contains(data, `"added":1`) {
		t.Errorf("the next event is %q", data)
	}
	s.stop(t) // though a client follows
	if data := next(); data != "" {
		t.Errorf("after the end: %q", data)
	}
}

// send sends one span with an id.
func send(t *testing.T, endpoint string, id byte, change ...func(*http.Request)) int {
	t.Helper()
	hex := strings.Repeat("0", 15) + string('0'+id)
	body := `{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"` + hex + hex + `","spanId":"` + hex + `","name":"n` + string('0'+id) + `","startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}`
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint+"/v1/traces", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for _, c := range change {
		c(r)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	return answer.StatusCode
}

// Requests that name another host, or come from another site, are refused.
func TestHosts(t *testing.T) {
	s := serve(t, "--allow-host", "trail.example")
	for host, want := range map[string]int{"localhost:1": 200, "127.0.0.1": 200, "[::1]:80": 200, "trail.example:8090": 200, "evil.example": 421, "127.0.0.1.evil.example": 421} {
		named := func(r *http.Request) { r.Host = host }
		if status, _, _ := get(t, s.page+"/", browser, named); status != want {
			t.Errorf("the page for %s: %d, want %d", host, status, want)
		}
		if status := send(t, s.http, 1, named); status != want {
			t.Errorf("OTLP for %s: %d, want %d", host, status, want)
		}
	}
	if status := send(t, s.http, 1, func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }); status != 403 {
		t.Errorf("from another site: %d", status)
	}
	for mode, want := range map[string]int{"no-cors": 403, "navigate": 200} { // a script, and a link
		if status, _, _ := get(t, s.page+"/", browser, func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", mode)
		}); status != want {
			t.Errorf("from another site, %s: %d, want %d", mode, status, want)
		}
	}
}

// With a token, every request needs it; a browser gives it once.
func TestToken(t *testing.T) {
	s := serve(t, "--page", "0.0.0.0:0", "--token", "secret")
	s.page = strings.Replace(s.page, "0.0.0.0", "127.0.0.1", 1)
	s.page = strings.Replace(s.page, "[::]", "127.0.0.1", 1)
	for _, url := range []string{s.page, s.page + "/?token=wrong", s.page + "/events"} {
		if status, _, body := get(t, url, browser); status != http.StatusUnauthorized || !strings.Contains(body, "token") {
			t.Errorf("%s without the token: %d %s", url, status, body)
		}
	}
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer secret") }
	if status := send(t, s.http, 1); status != http.StatusUnauthorized {
		t.Errorf("OTLP without the token: %d", status)
	}
	if status := send(t, s.http, 1, bearer); status != http.StatusOK {
		t.Errorf("OTLP with the token: %d", status)
	}
	status, header, _ := get(t, s.page+"/?token=secret&q=a%3Db", browser)
	if status != http.StatusSeeOther || header.Get("Location") != "/?q=a%3Db" || !strings.Contains(header.Get("Set-Cookie"), "HttpOnly; SameSite=Strict") {
		t.Fatalf("the token in the address: %d %v", status, header)
	}
	cookie, _, _ := strings.Cut(header.Get("Set-Cookie"), ";")
	if status, _, _ := get(t, s.page+"/", browser, func(r *http.Request) { r.Header.Set("Cookie", cookie) }); status != http.StatusOK {
		t.Errorf("with the cookie: %d", status)
	}
	if _, stderr, code := run(t, "show", "--from", s.page, "--token", "secret", "0000000000000001"); code != 0 {
		t.Errorf("show: %d %s", code, stderr)
	}
	if _, stderr, code := run(t, "show", "--from", s.page, "0000000000000001"); code != 1 || !strings.Contains(stderr, "token") {
		t.Errorf("show without the token: %d %s", code, stderr)
	}
}

// Everything is sent on to a backend, from one trail to another, over HTTP and gRPC; while
// the backend is away, stories are received nevertheless.
func TestForward(t *testing.T) {
	backend := serve(t)
	for name, url := range map[string]string{"HTTP": backend.http, "gRPC": strings.Replace(backend.grpc, "http:", "grpc:", 1)} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, "--forward", url, "--forward-header", "X-Test=1")
			id := map[string]byte{"HTTP": 1, "gRPC": 2}[name]
			if status := send(t, s.http, id); status != http.StatusOK {
				t.Fatal(status)
			}
			until(t, "the backend has the span", func() bool {
				status, _, _ := get(t, backend.page+"/stories/000000000000000"+string('0'+id), "application/json")
				return status == http.StatusOK
			})
			until(t, "the page counts it", func() bool {
				_, _, list := get(t, s.page+"/", "application/json")
				return strings.Contains(list, `"sent":1,"dropped":0`)
			})
			s.stop(t)
		})
	}
	away, err := net.Listen("tcp", "127.0.0.1:0") // it accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = away.Close() }()
	s := serve(t, "--forward", "http://"+away.Addr().String())
	if status := send(t, s.http, 1); status != http.StatusOK {
		t.Errorf("while the backend is away: %d", status)
	}
	s.stop(t)
	if !strings.Contains(s.stderr.String(), "dropped=1") {
		t.Errorf("the drop is not reported: %s", s.stderr)
	}
}
