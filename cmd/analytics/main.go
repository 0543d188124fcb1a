// Command analytics runs the analytics service against the NATS server at NATS_URL.
package main

import (
	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/analytics"
)

func main() { service.Main(analytics.Service) }
