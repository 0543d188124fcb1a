// Command fulfillment runs the fulfillment service against the NATS server at NATS_URL.
package main

import (
	"os"

	"example.org/ordertrail/internal/service"
	"example.org/ordertrail/services/fulfillment"
)

func main() { service.Main(fulfillment.Service, os.Args[1:]) }
