#!/bin/sh
echo "Shell script 2"
