package orders

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
)

// Bounds of a request.
const (
	maxBody     = 64 << 10 // bytes
	maxItems    = 50
	maxQuantity = 1000
	maxName     = 200 // characters, as the following
	maxEmail    = 254 // RFC 5321, section 4.5.3.1.3
	maxAddress  = 500
	maxToken    = 100
	maxKey      = 255
)

// request is the body of POST /orders.
type request struct {
	Customer event.Customer `json:"customer"`
	Items    []struct {
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
	} `json:"items"`
	Payment  event.Payment  `json:"payment"`
	Shipping event.Shipping `json:"shipping"`

	hash string // of the body
}

// fault is one thing that is wrong with a request.
type fault struct {
	Pointer string `json:"pointer"` // where: a JSON pointer (RFC 6901) into the body
	Detail  string `json:"detail"`
}

// faults is why a request was refused.
type faults []fault

func (f faults) Error() string {
	lines := make([]string, len(f))
	for i, one := range f {
		lines[i] = one.Pointer + ": " + one.Detail
	}
	return strings.Join(lines, "; ")
}

// parseRequest reads and checks a body. It returns faults if it is JSON of the
// right form that says something impossible, and a plain error if it is not.
func parseRequest(body []byte) (request, error) {
	r := request{hash: hash(body)}
	if at := invalidUTF8(body); at >= 0 {
		return r, fmt.Errorf("the body is not UTF-8, at byte %d", at+1)
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, explainJSON(err, body)
	}
	if _, err := d.Token(); err != io.EOF {
		return r, fmt.Errorf("there is something behind the JSON object, at byte %d", d.InputOffset())
	}
	if f := r.check(); len(f) > 0 {
		return r, f
	}
	return r, nil
}

// invalidUTF8 finds the first byte that is not UTF-8: -1 if all are.
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

// explainJSON says what is wrong with a body, and where. Of what the body holds it
// repeats little: an answer is small, however large the request.
func explainJSON(err error, body []byte) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return errors.New("the body is empty: it must be a JSON object")
	case errors.As(err, &syntax):
		return fmt.Errorf("the body is not JSON: %s, at byte %d", syntax, syntax.Offset)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the body is not JSON: it ends too early")
	case errors.As(err, &kind):
		field := kind.Field
		if field == "" {
			field = "the body"
		}
		return fmt.Errorf("%s must not be a JSON %.50s, at byte %d", field, kind.Value, kind.Offset)
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		return fmt.Errorf("unknown field %.50s: see GET /catalog for what there is to order, and the README for the form of an order", strings.TrimPrefix(err.Error(), "json: unknown field "))
	}
	return err
}

func (r request) check() (f faults) {
	wrong := func(pointer, format string, args ...any) {
		f = append(f, fault{pointer, fmt.Sprintf(format, args...)})
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
		r.Items = nil // what is wrong with each of them would not fit an answer
	}
	seen := map[string]int{}
	for i, item := range r.Items {
		at := fmt.Sprintf("/items/%d", i)
		if _, ok := catalog.Find(item.SKU); !ok {
			wrong(at+"/sku", "there is no product %.50q: see GET /catalog", item.SKU)
		} else if first, ok := seen[item.SKU]; ok {
			wrong(at+"/sku", "is in /items/%d already: add up the quantities", first)
		} else {
			seen[item.SKU] = i
		}
		if item.Quantity < 1 || item.Quantity > maxQuantity {
			wrong(at+"/quantity", "is %d: it must be from 1 to %d", item.Quantity, maxQuantity)
		}
	}
	return f
}

// order makes the order that a checked request asks for, at today's prices.
func (r request) order(id string, now time.Time) event.Created {
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
