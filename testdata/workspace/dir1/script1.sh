#!/bin/bash

# This is a script file
