// Package spec checks docs/api/openapi.yaml against the specification's own schema. It
// is a module of its own, so that the program's has nothing of the validator's.
package spec

import (
	"os"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// problems are what the validator finds wrong with a document.
func problems(t *testing.T, document string) (all []string) {
	t.Helper()
	parsed, err := libopenapi.NewDocument([]byte(document))
	if err != nil {
		return []string{err.Error()}
	}
	v, errs := validator.NewValidator(parsed)
	for _, err := range errs {
		all = append(all, err.Error())
	}
	if len(errs) > 0 {
		return all
	}
	_, found := v.ValidateDocument()
	for _, e := range found {
		all = append(all, e.Error())
		for _, more := range e.SchemaValidationErrors {
			all = append(all, more.Error())
		}
	}
	return all
}

// The document is OpenAPI 3.1; and one that is not is found out.
func TestOpenAPIDocument(t *testing.T) {
	read, err := os.ReadFile("../../../docs/api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	document := string(read)
	for _, p := range problems(t, document) {
		t.Error(p)
	}
	for name, change := range map[string][2]string{
		"an operation without responses": {"      responses:\n        \"202\":\n          description: The order is stored.", "      answers:\n        \"202\":\n          description: The order is stored."},
		"a parameter without a place":    {"          in: header\n", ""},
		"a place that there is not":      {"          in: header\n", "          in: body\n"},
		"a response without description": {"          description: The order is stored.\n", ""},
		"a member that there is not":     {"  summary: The shop's HTTP API", "  subtitle: The shop's HTTP API"},
		"a reference to nothing":         {"$ref: '#/components/schemas/NewOrder'", "$ref: '#/components/schemas/NoOrder'"},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := strings.Replace(document, change[0], change[1], 1)
			if wrong == document {
				t.Fatalf("there is no %q in the document", change[0])
			}
			if len(problems(t, wrong)) == 0 {
				t.Error("it is not found out")
			}
		})
	}
}
