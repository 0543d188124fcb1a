// Command analytics runs the analytics service against the NATS server at NATS_URL.
package main

import (
	"os"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/analytics"
)

func main() { service.Main(analytics.Service, os.Args[1:]) }
