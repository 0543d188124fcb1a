// Package spec checks docs/api/openapi.yaml against the schema of OpenAPI. It is a module
// of its own, so that the main module does not depend on the validator.
package spec

import (
	"os"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/errors"
)

// problems returns what the validator reports about a document.
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
	return describe(found)
}

// describe returns all errors, and the causes that the validator found in a schema.
func describe(errs []*errors.ValidationError) (all []string) {
	for _, e := range errs {
		all = append(all, e.Error())
		for _, more := range e.SchemaValidationErrors {
			all = append(all, more.Error())
		}
	}
	return all
}

// TestOpenAPIDocument checks that the document is valid OpenAPI 3.1, and that the validator
// reports changes that make it invalid.
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
		"an unknown place":               {"          in: header\n", "          in: body\n"},
		"a response without description": {"          description: The order is stored.\n", ""},
		"an unknown member":              {"  summary: The shop's HTTP API", "  subtitle: The shop's HTTP API"},
		"a reference to nothing":         {"$ref: '#/components/schemas/NewOrder'", "$ref: '#/components/schemas/NoOrder'"},
	} {
		t.Run(name, func(t *testing.T) {
			wrong := strings.Replace(document, change[0], change[1], 1)
			if wrong == document {
				t.Fatalf("the document does not contain %q", change[0])
			}
			if len(problems(t, wrong)) == 0 {
				t.Error("the validator reports no problem")
			}
		})
	}
}
