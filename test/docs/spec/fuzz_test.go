package spec

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"

	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/storefront"
	"example.org/ordertrail/test/shoptest"
	"example.org/ordertrail/test/systemtest"
)

// FuzzRequests sends requests to the API. The document must allow each request that the
// service accepts, and each response.
func FuzzRequests(f *testing.F) {
	const order = `{"customer":{"name":"Robin Example","email":"robin@example.com"},` +
		`"items":[{"sku":"TRAIL-MAP","quantity":2},{"sku":"COMPASS","quantity":1}],` +
		`"payment":{"token":"tok_ok"},"shipping":{"address":"1 Trailhead Way, 12345 Sampleton"}}`
	const asJSON = "application/json"
	f.Add(http.MethodPost, "", "", asJSON, []byte(order))
	f.Add(http.MethodPost, "", "a key", asJSON, []byte(order))
	f.Add(http.MethodPost, "", "key-1", asJSON+"; charset=utf-8", []byte(order))
	f.Add(http.MethodPost, "", "", "text/plain", []byte(order))
	for _, change := range [][2]string{
		{`"quantity":2`, `"quantity":2.0`}, {`"quantity":2`, `"quantity":0`}, {`"quantity":2`, `"quantity":1e2`}, {`"quantity":1`, `"quantity":"1"`},
		{"Robin Example", "\\u200b"}, {"Robin Example", strings.Repeat("n", 101)}, {"robin@example.com", "r@localhost"}, {"robin@", strings.Repeat("r", 65) + "@"},
		{"TRAIL-MAP", "SUBMARINE"}, {"COMPASS", "TRAIL-MAP"}, {`"customer"`, `"CUSTOMER"`}, {"tok_ok", ""}, {`"items":[`, `"items":[],"items":[`}, {"}}", `},"more":1}`},
	} {
		f.Add(http.MethodPost, "", "", asJSON, []byte(strings.Replace(order, change[0], change[1], 1)))
	}
	f.Add(http.MethodGet, "", "", "", []byte(nil))
	for _, id := range []string{shoptest.Unknown, "1", "..", "%2f", "01890000-0000-7000-8000-00000000000g", "\xff"} {
		f.Add(http.MethodGet, id, "", "", []byte(nil))
		f.Add(http.MethodDelete, id, "", "", []byte(nil))
	}

	read, err := os.ReadFile("../../../docs/api/openapi.yaml")
	if err != nil {
		f.Fatal(err)
	}
	document, err := libopenapi.NewDocument(read)
	if err != nil {
		f.Fatal(err)
	}
	api, errs := validator.NewValidator(document)
	for _, err := range errs {
		f.Fatal(err)
	}
	s := shoptest.Open(f, systemtest.Server(f).Connect, storefront.Service(nil, nil).Wire)
	known := s.MustPlace(f).ID

	f.Fuzz(func(t *testing.T, method, id, key, contentType string, body []byte) {
		path := s.URL + "/orders"
		switch id {
		case ".", "..":
			t.Skip("another path")
		case "":
		case "known":
			path += "/" + known
		default:
			path += "/" + url.PathEscape(id)
		}
		switch {
		case method == http.MethodPost && id == "":
		case method == http.MethodGet || method == http.MethodDelete && id != "":
			body = nil
		default:
			t.Skip("not in the document")
		}
		request := func() *http.Request {
			r, err := http.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
			if err != nil {
				t.Skip(err)
			}
			r.Header.Set("Accept", "application/json")
			for name, value := range map[string]string{"Content-Type": contentType, "Idempotency-Key": key} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			return r
		}
		response, err := s.Client.Do(request())
		if err != nil {
			t.Skip(err) // the client refuses to send this
		}
		answer, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		response.Body = io.NopCloser(bytes.NewReader(answer))
		if ok, problems := api.ValidateHttpResponse(request(), response); !ok {
			t.Errorf("%s: the document does not allow the response %s: %q", response.Status, answer, describe(problems))
		}
		if response.StatusCode >= http.StatusMultipleChoices {
			return
		}
		if response.StatusCode == http.StatusAccepted && method == http.MethodPost { // open orders are bounded
			var placed struct{ ID string }
			if err := json.Unmarshal(answer, &placed); err != nil {
				t.Fatal(err)
			}
			s.MustPublish(t, event.FulfillmentCancelled, event.Conclusion{OrderKey: event.OrderKey{OrderID: placed.ID}, Reason: event.ReasonCustomer})
		}
		if ok, problems := api.ValidateHttpRequestSync(request()); !ok {
			t.Errorf("%s: the document does not allow the request %s %s %q: %s", response.Status, method, path, body, describe(problems))
		}
	})
}
