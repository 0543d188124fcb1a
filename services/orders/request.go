package orders

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/mail"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"example.org/ordertrail/internal/catalog"
	"example.org/ordertrail/internal/event"
	"example.org/ordertrail/internal/respond"
)

// Bounds of a request.
const (
	MaxBody     = 64 << 10 // bytes
	MaxQuantity = 1000
	maxItems    = 50
	maxName     = 200 // characters, as the following two
	maxAddress  = 500
	maxToken    = 100
	maxEmail    = 254 // bytes; RFC 5321, section 4.5.3.1.3, without the brackets of a path
	maxLocal    = 64  // bytes before the @; section 4.5.3.1.1
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
// of the right form, has unknown members, or a member twice. Names are case-sensitive.
func parseRequest(body []byte) (Request, error) {
	r := Request{hash: hash(body)}
	if err := json.Unmarshal(body, &r, json.RejectUnknownMembers(true), wholeNumbers); err != nil {
		return r, respond.Errorf(http.StatusBadRequest, "%s", explainJSON(err, body))
	}
	return r, nil
}

// wholeNumbers accepts each form of a whole number, also 2.0 and 2e0, as JSON Schema does
// for its type integer.
var wholeNumbers = json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, n *int) error {
	if d.PeekKind() != jsontext.KindNumber {
		return errors.ErrUnsupported // as without this function
	}
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	if *n, err = strconv.Atoi(string(value)); err == nil {
		return nil
	}
	f, err := strconv.ParseFloat(string(value), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return &json.SemanticError{JSONPointer: d.StackPointer(), JSONKind: jsontext.KindNumber, JSONValue: value.Clone()}
	}
	*n = int(f)
	return nil
}))

// explainJSON describes the fault of a body and its place. It repeats little of the
// body: the answer is small, however large the request is.
func explainJSON(err error, body []byte) string {
	var syntax *jsontext.SyntacticError
	var meaning *json.SemanticError
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return "the body is empty: it must be a JSON object"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the body is not JSON: it ends too early"
	case errors.As(err, &syntax) && errors.Is(err, jsontext.ErrDuplicateName):
		return fmt.Sprintf("the body has %.50q twice, at byte %d", syntax.JSONPointer, syntax.ByteOffset+1)
	case errors.As(err, &syntax):
		return fmt.Sprintf("the body is not JSON: %.100s, at byte %d", syntax.Err, syntax.ByteOffset+1)
	case errors.As(err, &meaning) && errors.Is(err, json.ErrUnknownName):
		return fmt.Sprintf("unknown field %.50q: see docs/http.md for the fields of an order", meaning.JSONPointer.LastToken())
	case errors.As(err, &meaning):
		value := cmp.Or(string(meaning.JSONValue), kinds[meaning.JSONKind], meaning.JSONKind.String())
		return fmt.Sprintf("%.50s must not be %.50s: see docs/http.md for the fields of an order", cmp.Or(string(meaning.JSONPointer), "the body"), value)
	}
	return "the body is not a JSON object of the right form"
}

// kinds are the names of kinds of JSON values in a sentence.
var kinds = map[jsontext.Kind]string{
	jsontext.KindBeginObject: "an object", jsontext.KindBeginArray: "an array",
	jsontext.KindString: "a string", jsontext.KindNumber: "a number",
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
		case !strings.ContainsFunc(value, visible):
			wrong(pointer, "is missing")
		case n > most:
			wrong(pointer, "has %d characters, %d are allowed", n, most)
		case strings.ContainsFunc(value, unicode.IsControl):
			wrong(pointer, "contains a control character")
		case !utf8.ValidString(value) || strings.ContainsFunc(value, forbidden):
			wrong(pointer, "contains a character that is not text, such as one that changes the direction of writing")
		}
	}
	text("/customer/name", r.Customer.Name, maxName)
	text("/customer/email", r.Customer.Email, maxEmail)
	if email := r.Customer.Email; email != "" {
		a, err := mail.ParseAddress(email)
		local, _, _ := strings.Cut(email, "@")
		if err != nil || a.Address != email || len(email) > maxEmail || len(local) > maxLocal {
			wrong("/customer/email", "is not a mail address of the form name@example.com, with %d bytes at most and %d before the @", maxEmail, maxLocal)
		}
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

// visible reports whether a character can be seen.
func visible(c rune) bool {
	return unicode.IsOneOf([]*unicode.RangeTable{unicode.L, unicode.N, unicode.P, unicode.S}, c) &&
		!unicode.Is(unicode.Other_Default_Ignorable_Code_Point, c) && c != brailleBlank
}

// brailleBlank is a symbol by its category, and looks like a space.
const brailleBlank = '\u2800'

// forbidden reports whether a character is none of a text in one line, or makes a text look
// like another one. Zero-width joiners are allowed, because some scripts and emoji need them.
func forbidden(c rune) bool {
	return unicode.IsOneOf([]*unicode.RangeTable{
		unicode.Bidi_Control, unicode.Co, unicode.Cs, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point,
	}, c)
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
