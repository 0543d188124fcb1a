// Package browser tests the pages in a real browser: headless Chromium, which can reach
// only this machine. Without a browser the tests are skipped, or fail with
// ORDERTRAIL_BROWSER=required.
package browser

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"example.org/ordertrail/internal/demo"
	"example.org/ordertrail/test/systemtest"
)

// patience is how long a page may take for a change that should come soon.
const patience = time.Minute

// tab is a page in a browser, with its problems.
type tab struct {
	context.Context
	t    *testing.T
	shop string // its URL

	mu       sync.Mutex
	problems []string
	expected []string // texts of problems that are no failure
}

// program finds a browser.
func program(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("ORDERTRAIL_BROWSER") == "required" {
		t.Fatal("no browser found: install chromium")
	}
	t.Skip("no browser found: install chromium")
	return ""
}

// open runs the whole system as the demo does, and a browser with one tab, until
// the test ends.
func open(t *testing.T, change ...func(*systemtest.Config)) *tab {
	t.Helper()
	program(t)
	sys := systemtest.Start(t, append(change, systemtest.Deadline(demo.OrderDeadline))...)
	return newTab(start(t), t, sys.URL)
}

// start starts a browser, which runs until the test ends.
func start(t *testing.T) context.Context {
	t.Helper()
	path := program(t)
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true), chromedp.Flag("no-first-run", true), chromedp.Flag("disable-background-networking", true),
		// Only this machine answers, whether by name or by address.
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.WindowSize(1280, 900),
	)...)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 8*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// another opens a page in one more tab of the browser.
func (b *tab) another(path string) *tab {
	b.t.Helper()
	tab := newTab(b.Context, b.t, b.shop)
	tab.expect(b.expected...)
	tab.visit(path)
	return tab
}

// newTab opens a tab until the test ends, with a browser of its own unless ctx has one.
func newTab(ctx context.Context, t *testing.T, shop string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{Context: ctx, t: t, shop: shop}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatalf("start the browser: %v", err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: `addEventListener("securitypolicyviolation", e => console.error("policy violated: " + e.violatedDirective + " " + e.blockedURI))`,
	})
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, p := range b.problems {
			t.Error(p)
		}
	})
	return b
}

// listen records the problems of a page: logged errors, exceptions, violations of its
// policy, and requests to other hosts.
func (b *tab) listen(e any) {
	note := func(format string, args ...any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		what := fmt.Sprintf(format, args...)
		if !slices.ContainsFunc(b.expected, func(e string) bool { return strings.Contains(what, e) }) {
			b.problems = append(b.problems, what)
		}
	}
	switch e := e.(type) {
	case *runtime.EventExceptionThrown:
		note("exception: %v", e.ExceptionDetails)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			for _, a := range e.Args {
				note("console: %s", a.Value)
			}
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError {
			note("log: %s %s", e.Entry.Text, e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		if u := e.Request.URL; !strings.HasPrefix(u, b.shop+"/") {
			note("a request went elsewhere: %s", u)
		}
	}
}

// expect allows problems with these texts.
func (b *tab) expect(what ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, what...)
}

// run does something in the browser.
func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("browser: %v", err)
	}
}

// get does something in the browser that has a result.
func get[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("browser: %v", err)
	}
	return value
}

// call sends a command of the protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b, command, params); err != nil {
		b.t.Fatalf("browser: %s: %v", command.Method, err)
	}
}

// eval returns a JavaScript expression's value.
func eval[T any](b *tab, js string) T {
	b.t.Helper()
	return get(b, chromedp.Evaluate[T](js))
}

// until polls until a JavaScript expression is true.
func (b *tab) until(what, js string) {
	b.t.Helper()
	systemtest.Until(b.t, what, func() bool {
		ctx, cancel := context.WithTimeout(b, patience)
		defer cancel()
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+js+")"))
		return err == nil && ok // a page that is being left has nothing to evaluate
	})
}

// visit opens a page of the shop.
func (b *tab) visit(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.shop + path))
}

// follow clicks the element of a selector, and waits for the page that it leads to.
func (b *tab) follow(selector string) {
	b.t.Helper()
	for tries := 1; ; tries++ {
		_, err := chromedp.RunResponse(b, chromedp.ScrollIntoView(chromedp.CSS(selector)), chromedp.Click(chromedp.CSS(selector)))
		// A live page may replace the link while it is being clicked.
		if err != nil && strings.Contains(err.Error(), "Could not find node") && tries < 10 {
			continue
		}
		if err != nil {
			b.t.Fatalf("click %s: %v", selector, err)
		}
		return
	}
}

// path is the path of the current page.
func (b *tab) path() string {
	b.t.Helper()
	u, err := url.Parse(eval[string](b, "location.href"))
	if err != nil {
		b.t.Fatal(err)
	}
	return u.Path
}

// colours sets the colour scheme that the system prefers: light or dark.
func (b *tab) colours(scheme string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
}
