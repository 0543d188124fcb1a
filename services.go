package main

import (
	"example.org/ordertrail/internal/app"
	"example.org/ordertrail/internal/service"
)

// runService runs the service of that name as its binary in cmd does, and reports
// whether there is one. The container image holds this binary alone, with a link to
// it under each service's name.
func runService(name string) bool {
	for _, def := range app.Services(nil, nil) {
		if def.Name == name {
			service.Main(def)
			return true
		}
	}
	return false
}
