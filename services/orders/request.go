package orders

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/respond"
)

// Bounds of a request.
const (
	MaxBody     = 64 << 10 // bytes
	MaxQuantity = 1000
	maxItems    = 50
	maxName     = 200 // characters, as the following
	maxEmail    = 254 // RFC 5321, section 4.5.3.1.3
	maxAddress  = 500
	maxToken    = 100
	maxKey      = 255
)

// Request is the body of POST /orders.
type Request struct {
	Customer event.Customer `json:"customer"`
	Items    []Item         `json:"items"`
	Payment  event.Payment  `json:"payment"`
	Shipping event.Shipping `json:"shipping"`

	hash string // of the body; empty if there was none
}

// Item is a product in a request.
type Item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// parseRequest reads a body. It returns an error with status 400 if the body is not JSON
// of the right form.
func parseRequest(body []byte) (Request, error) {
	r := Request{hash: hash(body)}
	if at := invalidUTF8(body); at >= 0 {
		return r, respond.Errorf(http.StatusBadRequest, "the body is not UTF-8, at byte %d", at+1)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, respond.Errorf(http.StatusBadRequest, "%s", explainJSON(err, body))
	}
	if _, err := d.Token(); err != io.EOF {
		return r, respond.Errorf(http.StatusBadRequest, "unexpected data behind the JSON object, at byte %d", d.InputOffset())
	}
	return r, nil
}

// invalidUTF8 returns the index of the first byte that is not UTF-8, -1 if all are.
func invalidUTF8(body []byte) int {
	for i := 0; i < len(body); {
		r, size := utf8.DecodeRune(body[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// explainJSON describes the fault of a body and its place. It repeats little of the
// body: the answer is small, however large the request is.
func explainJSON(err error, body []byte) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return "the body is empty: it must be a JSON object"
	case errors.As(err, &syntax):
		return fmt.Sprintf("the body is not JSON: %s, at byte %d", syntax, syntax.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the body is not JSON: it ends too early"
	case errors.As(err, &kind):
		field := cmp.Or(kind.Field, "the body")
		return fmt.Sprintf("%s must not be a JSON %.50s, at byte %d", field, kind.Value, kind.Offset)
	}
	if name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); unknown {
		return fmt.Sprintf("unknown field %.50s: see docs/http.md for the fields of an order", name)
	}
	return err.Error()
}

// check returns an error with status 422 and each fault of the request's values, nil if
// there is none.
func (r Request) check() error {
	var faults []respond.Field
	wrong := func(pointer, format string, args ...any) {
		faults = append(faults, respond.Field{Pointer: pointer, Detail: fmt.Sprintf(format, args...)})
	}
	text := func(pointer, value string, most int) {
		switch n := utf8.RuneCountInString(value); {
		case strings.TrimSpace(value) == "":
			wrong(pointer, "is missing")
		case n > most:
			wrong(pointer, "has %d characters, %d are allowed", n, most)
		case strings.ContainsFunc(value, unicode.IsControl):
			wrong(pointer, "contains a control character")
		}
	}
	text("/customer/name", r.Customer.Name, maxName)
	text("/customer/email", r.Customer.Email, maxEmail)
	if a, err := mail.ParseAddress(r.Customer.Email); r.Customer.Email != "" && (err != nil || a.Address != r.Customer.Email) {
		wrong("/customer/email", "is not a mail address of the form name@example.com")
	}
	text("/payment/token", r.Payment.Token, maxToken)
	text("/shipping/address", r.Shipping.Address, maxAddress)
	if n := len(r.Items); n == 0 {
		wrong("/items", "is missing: order at least one item")
	} else if n > maxItems {
		wrong("/items", "has %d entries, %d are allowed", n, maxItems)
		r.Items = nil // their faults would not fit into an answer
	}
	seen := map[string]int{}
	for i, item := range r.Items {
		at := fmt.Sprintf("/items/%d", i)
		if _, ok := catalog.Find(item.SKU); !ok {
			wrong(at+"/sku", "names the unknown product %.50q: see GET /catalog", item.SKU)
		} else if first, ok := seen[item.SKU]; ok {
			wrong(at+"/sku", "is in /items/%d already: add up the quantities", first)
		} else {
			seen[item.SKU] = i
		}
		if item.Quantity < 1 || item.Quantity > MaxQuantity {
			wrong(at+"/quantity", "is %d: it must be from 1 to %d", item.Quantity, MaxQuantity)
		}
	}
	if len(faults) == 0 {
		return nil
	}
	lines := make([]string, len(faults))
	for i, f := range faults {
		lines[i] = f.Pointer + ": " + f.Detail
	}
	return &respond.Error{Status: http.StatusUnprocessableEntity, Detail: strings.Join(lines, "; "), Fields: faults}
}

// order makes the order that a checked request asks for, at today's prices.
func (r Request) order(id string, now time.Time) event.Created {
	created := event.Created{
		OrderKey: event.OrderKey{OrderID: id}, Customer: r.Customer, Payment: r.Payment, Shipping: r.Shipping,
		Total: event.Money{Currency: catalog.Currency}, CreatedAt: now.UTC(), RequestHash: r.hash,
	}
	for _, i := range r.Items {
		product, _ := catalog.Find(i.SKU)
		created.Items = append(created.Items, event.Item{SKU: i.SKU, Quantity: i.Quantity, UnitPrice: product.Price})
		created.Total.Amount += product.Price.Amount * int64(i.Quantity)
	}
	return created
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
