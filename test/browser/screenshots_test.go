package browser

import (
	"bytes"
	"context"
	"flag"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"os"
	"testing"

	"github.com/chromedp/chromedp"

	"example.org/ordertrail/internal/demo"
)

var screenshots = flag.Bool("screenshots", false, "make the pictures in docs anew")

// With -screenshots, the test makes the pictures of the documents. Without, it checks
// their size.
func TestScreenshots(t *testing.T) {
	if !*screenshots {
		for _, name := range []string{"shop", "trail"} {
			info, err := os.Stat("../../docs/" + name + ".png")
			if err != nil {
				t.Fatalf("%v: -screenshots makes it", err)
			}
			if info.Size() > 200_000 {
				t.Errorf("docs/%s.png has %d bytes, want 200000 at most", name, info.Size())
			}
		}
		t.Skip("the pictures are made with -screenshots")
	}
	b := open(t)
	shop := demo.Shop{URL: b.shop, Client: http.DefaultClient}
	first := ""
	for _, sc := range append(demo.Scenarios(), demo.Scenarios()[0]) {
		order, err := demo.Play(context.Background(), shop, sc)
		if err != nil {
			t.Fatal(err)
		}
		first = order.ID // the last one, of a warm shop
	}
	b.colours("light")
	b.run(chromedp.EmulateViewport(1200, 800))
	b.visit("/")
	b.until("the page is live", `document.querySelector("#live").textContent === "live"`)
	b.save("shop", 1200, 800)

	b.visit("/orders/" + first + "/trail")
	b.until("the trail is complete", `!document.querySelector(".gaps.pending")`)
	height := eval[int64](b, `Math.ceil(document.getElementById("waterfall").getBoundingClientRect().bottom + scrollY) + 16`)
	b.save("trail", 1200, height)
}

// save writes the page as the browser shows it to docs.
func (b *tab) save(name string, width, height int64) {
	b.t.Helper()
	b.run(chromedp.EmulateViewport(width, height))
	got, err := png.Decode(bytes.NewReader(get(b, chromedp.CaptureScreenshot())))
	if err != nil {
		b.t.Fatal(err)
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, fewColours(got)); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile("../../docs/"+name+".png", small.Bytes(), 0o644); err != nil {
		b.t.Fatal(err)
	}
	b.t.Logf("docs/%s.png: %d bytes", name, small.Len())
}

// fewColours keeps 256 of an image's colours: one after the other, the one that is missed
// most, by its frequency and its distance from those that are kept. That makes the file a
// third as large.
func fewColours(img image.Image) image.Image {
	count, distance := map[color.RGBA]float64{}, map[color.RGBA]float64{}
	bounds := img.Bounds()
	at := func(x, y int) color.RGBA { return color.RGBAModel.Convert(img.At(x, y)).(color.RGBA) }
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[at(x, y)]++
		}
	}
	for c := range count {
		distance[c] = 1e6
	}
	palette := color.Palette{}
	for range min(len(count), 256) {
		var next color.RGBA
		most := -1.0
		for c, n := range count {
			if miss := n * distance[c]; miss > most {
				next, most = c, miss
			}
		}
		palette = append(palette, next)
		for c := range count {
			r, g, b := float64(c.R)-float64(next.R), float64(c.G)-float64(next.G), float64(c.B)-float64(next.B)
			distance[c] = min(distance[c], r*r+g*g+b*b)
		}
	}
	nearest := map[color.RGBA]uint8{}
	few := image.NewPaletted(bounds, palette)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			c := at(x, y)
			i, ok := nearest[c]
			if !ok {
				i = uint8(palette.Index(c))
				nearest[c] = i
			}
			few.SetColorIndex(x, y, i)
		}
	}
	return few
}
