// Command analytics runs the analytics service against the NATS server at NATS_URL.
package main

import (
	"ordertrail/internal/service"
	"ordertrail/services/analytics"
)

func main() { service.Main(analytics.Name, analytics.DefaultHTTPAddr, analytics.Wire) }
