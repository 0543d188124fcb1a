// Command fulfillment runs the fulfillment service against the NATS server at NATS_URL.
package main

import (
	"ordertrail/internal/service"
	"ordertrail/services/fulfillment"
)

func main() { service.Main(fulfillment.Name, "", fulfillment.Wire) }
