package browser

import (
	"bufio"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"example.org/ordertrail/test/full"
)

// The tool's pages are live: a story appears in the list and grows on its page, and a span
// of it has an address of its own. A written page shows the same without a server.
func TestTool(t *testing.T) {
	full.Only(t)
	browser := start(t)
	binary := filepath.Join(t.TempDir(), "trail")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/trail").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	serve := exec.Command(binary, "serve", "--page", "127.0.0.1:0", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
	out, err := serve.StdoutPipe()
	if err == nil {
		err = serve.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = serve.Process.Signal(syscall.SIGTERM)
		if err := serve.Wait(); err != nil {
			t.Errorf("trail serve: %v", err)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	urls := regexp.MustCompile(`http://[0-9.:]+`).FindAllString(line, -1)
	if err != nil || len(urls) != 3 {
		t.Fatalf("it prints %q: %v", line, err)
	}
	// Trace n has span n, which links span n-1.
	send := func(n int, service, name string) {
		id := func(n int) string { return fmt.Sprintf(`"traceId":"%032x","spanId":"%016x"`, n, n) }
		body := fmt.Sprintf(`{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"%s"}}]},"scopeSpans":[{"spans":[{%s,"name":"%s","kind":5,
			"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[{"key":"file","value":{"stringValue":"<b>&"}}],"links":[{%s,"attributes":[{"key":"why","value":{"stringValue":"because"}}]}]}]}]}]}`,
			service, id(n), name, int64(n)*1e9, int64(n)*1e9+5e8, id(n-1))
		answer, err := http.Post(urls[1]+"/v1/traces", "application/json", strings.NewReader(strings.Replace(body, "{"+id(0)+`,"attributes":[{"key":"why","value":{"stringValue":"because"}}]}`, "", 1)))
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatal(answer, err)
		}
		_ = answer.Body.Close()
	}
	b := newTab(browser, t, urls[0])
	b.visit("/")
	b.until("the page follows", `document.querySelector("#live").textContent == "live"`)
	send(1, "web", "upload")
	b.until("the story is listed", `document.querySelector("#stories a")?.textContent == "web: upload"`)
	b.follow("#stories a")
	send(2, "resizer", "resize")
	b.until("the story grows, with an arrow", `document.querySelector("[data-span='0000000000000002']") && document.querySelector("[data-from='0000000000000001'][data-to='0000000000000002']")`)
	b.visit("/stories/0000000000000002#span-0000000000000002")
	b.until("the address shows the span, its link and its attributes", `document.querySelector("#span-0000000000000002:target")?.textContent.includes("web: upload") && document.querySelector("#span-0000000000000002").textContent.includes("<b>&")`)
	b.until("and opens it", `document.querySelector("#panel:not([hidden])")?.textContent.includes("resizer: resize") && document.querySelector("#row-0000000000000002.on")`)
	b.visit("/")
	b.run(chromedp.SetValue(chromedp.CSS("input[name=q]"), "file=<b>&"), chromedp.Click(chromedp.CSS(".search button")))
	b.until("the search finds it", `document.querySelector("h1").textContent.includes("<b>&") && document.querySelectorAll("#stories tbody tr").length == 1`)

	written := filepath.Join(t.TempDir(), "story.html")
	if out, err := exec.Command(binary, "show", "--from", urls[0], "--html", written, "0000000000000001").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.expect("went elsewhere: file://" + written)
	b.run(chromedp.Navigate("file://" + written))
	b.until("the written page has the story", `document.querySelector("[data-span='0000000000000002']")`)
	b.run(chromedp.EmulateViewport(360, 740))
	if over := eval[[]string](b, `(() => {
		const labels = [...document.querySelectorAll(".tick-label, .cut-label text")].map((e) => [e.textContent, e.getBoundingClientRect()]).filter(([, r]) => r.width);
		return ["labels: " + labels.length].concat(labels.flatMap(([a, r], i) => labels.slice(i + 1).filter(([, s]) =>
			r.left < s.right && s.left < r.right && r.top < s.bottom && s.top < r.bottom).map(([b]) => a + " over " + b)));
	})()`); !slices.Equal(over, []string{"labels: 3"}) {
		t.Errorf("on a phone the time axis has %q", over)
	}
}
