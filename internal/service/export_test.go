package service

// ServeFor serves as Serve does, with another time for an answer.
var ServeFor = serve
