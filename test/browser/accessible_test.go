package browser

import (
	"fmt"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.org/ordertrail/test/full"
)

// audit finds accessibility problems of a page: duplicate or missing ids, headings that
// skip a level, a custom tab order, pictures without a text, and text with too little
// contrast (WCAG 2.2: 1.1.1, 1.3.1, 1.4.3, 2.4.3, 4.1.2).
const audit = `(() => {
	const found = [], all = [...document.querySelectorAll("body *")];
	const ids = new Map();
	for (const e of all) if (e.id) ids.set(e.id, (ids.get(e.id) || 0) + 1);
	for (const [id, n] of ids) if (n > 1) found.push("id " + id + " is used " + n + " times");
	for (const e of all) for (const name of ["aria-labelledby", "aria-describedby", "for"]) {
		for (const id of (e.getAttribute(name) || "").split(" ")) if (id && !ids.has(id)) found.push(name + " refers to no element: " + id);
	}
	let level = 0;
	for (const h of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
		const now = Number(h.tagName[1]);
		if (now > level + 1) found.push("after h" + level + " comes " + h.outerHTML);
		level = now;
	}
	for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) found.push("an order of its own: " + e.outerHTML);
	for (const e of document.querySelectorAll("svg")) {
		if (!e.closest("[aria-hidden=true]") && !(e.getAttribute("role") === "img" && e.getAttribute("aria-label"))) found.push("a picture without a text: " + e.outerHTML.slice(0, 200));
	}
	if (!document.title || document.documentElement.lang !== "en") found.push("no title, or no language");

	const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
	const paint = colour => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); };
	const luminance = () => {
		const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	let read = 0;
	while (texts.nextNode()) {
		const e = texts.currentNode.parentElement;
		if (!texts.currentNode.data.trim() || e.closest("noscript, .visually-hidden, title, :disabled, [hidden], option") || !e.checkVisibility({ visibilityProperty: true })) continue;
		const style = getComputedStyle(e), svg = e.namespaceURI.endsWith("svg");
		const behind = [];
		for (let b = e; b; b = b.parentElement) behind.unshift(getComputedStyle(b).backgroundColor);
		if (svg && e.closest("g")?.querySelector("rect") && e.closest(".map")) behind.push(getComputedStyle(e.closest("g").querySelector("rect")).fill);
		behind.forEach(paint);
		const a = luminance();
		paint(svg ? style.fill : style.color);
		const b = luminance(), contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
		if (contrast < (large ? 3 : 4.5)) found.push("contrast " + contrast.toFixed(2) + ": " + texts.currentNode.data.trim() + " in " + e.outerHTML.slice(0, 200));
		read++;
	}
	if (read < 10) found.push("only " + read + " texts were checked");
	return [...new Set(found)];
})()`

// Every page can be used with low vision, without colours, and without a mouse.
func TestAccessible(t *testing.T) {
	full.Only(t)
	t.Parallel()
	b := open(t)
	var orders []string
	for _, scenario := range []string{"happy", "undeliverable", "poison"} {
		b.visit("/")
		b.follow("#scenario-" + scenario)
		orders = append(orders, b.path())
	}
	for i, state := range []string{"shipped", "cancelled", "cancelled"} {
		b.visit(orders[i])
		b.until("the order is concluded", `document.querySelector(".state-`+state+`")`)
	}
	paths := []string{"/", "/services", "/analytics"}
	for _, order := range orders {
		paths = append(paths, order, order+"/trail")
	}
	for _, scheme := range []string{"light", "dark"} {
		b.colours(scheme)
		for _, path := range paths {
			b.visit(path)
			eval[bool](b, `document.querySelectorAll("details").forEach(d => d.open = true) || true`)
			for _, what := range eval[[]string](b, audit) {
				t.Errorf("%s, %s: %s", path, scheme, what)
			}
		}
	}

	// The audit finds three problems that are added.
	eval[bool](b, `(() => {
		const p = document.createElement("p");
		p.style.color = getComputedStyle(document.body).backgroundColor;
		p.textContent = "faint";
		p.id = "main";
		document.querySelector("main").append(p, document.createElement("h6"));
		return true;
	})()`)
	if got := eval[[]string](b, audit); len(got) != 3 {
		t.Errorf("of three problems the audit finds %q", got)
	}

	// Tab moves through all links and controls in reading order, and the focus is visible.
	for _, path := range []string{"/", orders[0], "/services"} {
		b.visit(path)
		want := eval[int](b, `(() => {
			window.tabbed = [...document.querySelectorAll("a[href], button, input, select, summary, [tabindex='0']")]
				.filter(e => e.type !== "hidden" && !e.disabled && e.checkVisibility());
			return tabbed.length;
		})()`)
		for i := range want {
			b.run(chromedp.KeyEvent(kb.Tab))
			if wrong := eval[string](b, fmt.Sprintf(`(() => {
				const e = document.activeElement, box = e.getBoundingClientRect(), style = getComputedStyle(e);
				if (e !== tabbed[%d]) return "leads to " + e.outerHTML.slice(0, 200);
				if (style.outlineStyle !== "solid" || parseFloat(style.outlineWidth) < 2) return "does not show itself at " + e.outerHTML.slice(0, 200);
				if (box.bottom < 0 || box.top > innerHeight || box.width === 0) return "is out of sight at " + e.outerHTML.slice(0, 200);
				return "";
			})()`, i)); wrong != "" {
				t.Errorf("%s: Tab, for the %d. time, %s", path, i+1, wrong)
				break
			}
		}
		if want < 5 {
			t.Errorf("%s: %d things can be used", path, want)
		}
	}
}
