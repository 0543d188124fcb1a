package web

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// colours reads the custom properties of the style sheet that are colours: the
// light ones, and with those of the dark over them.
func colours(t *testing.T) (light, dark map[string]string) {
	t.Helper()
	css := contents["app.css"]
	light, dark = map[string]string{}, map[string]string{}
	before, after, found := strings.Cut(css, "@media (prefers-color-scheme: dark) {")
	if !found {
		t.Fatal("the style sheet has no dark colours")
	}
	after, _, _ = strings.Cut(after, "\n}\n")
	read := func(text string, into map[string]string) {
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6})`).FindAllStringSubmatch(text, -1) {
			into[m[1]] = m[2]
		}
	}
	read(before, light)
	read(before, dark)
	read(after, dark)
	if len(light) < 20 || light["paper"] == dark["paper"] {
		t.Fatalf("the style sheet is not understood: %v", light)
	}
	return light, dark
}

// luminance of a colour, as WCAG 2 defines it.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(hex, "#"), 16, 32)
	if err != nil {
		t.Fatal(err)
	}
	part := func(shift uint) float64 {
		c := float64(n>>shift&0xff) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*part(16) + 0.7152*part(8) + 0.0722*part(0)
}

// Text and drawings have enough contrast, on light and dark pages:
// WCAG 2.2, level AA (1.4.3 and 1.4.11).
func TestContrast(t *testing.T) {
	t.Parallel()
	light, dark := colours(t)
	for name, palette := range map[string]map[string]string{"light": light, "dark": dark} {
		want := func(foreground, background string, least float64) {
			t.Helper()
			a, b := luminance(t, palette[foreground]), luminance(t, palette[background])
			if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); got < least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want %g", name, foreground, background, got, least)
			}
		}
		for _, background := range []string{"paper", "card", "sunk"} {
			for _, text := range []string{"ink", "soft", "accent"} {
				want(text, background, 4.5)
			}
			want("focus", background, 3)
		}
		for _, text := range []string{"good", "bad", "warn", "plain"} {
			want(text, text+"-bg", 4.5)
			want(text, "card", 4.5)
		}
		want("bad", "paper", 4.5)
		want("on-accent", "accent", 4.5)
		want("edge", "card", 3) // borders of fields, and arrows
		for _, hue := range "abcdefgh" {
			want("hue-"+string(hue), "card", 3)
			want("hue-"+string(hue), "paper", 3)
		}
	}
}

// Every service that has a colour has one in the style sheet.
func TestServiceColours(t *testing.T) {
	t.Parallel()
	css := contents["app.css"]
	for service := range classes {
		if rule := fmt.Sprintf(".svc-%s { --hue: var(--hue-", service); !strings.Contains(css, rule) {
			t.Errorf("the style sheet lacks %s", rule)
		}
	}
	if got := Class(`"><script>`); got != "svc-other" {
		t.Errorf("the class of an unknown service is %q", got)
	}
}
